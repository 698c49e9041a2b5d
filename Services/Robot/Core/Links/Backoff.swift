package import Storage

/// Pauses that double, each drawn from the upper half of its range: robots that lost a service together must not come
/// back together.
package struct Backoff: Sendable {
  private let first: Duration
  private let longest: Duration
  private let runtime: Runtime
  private var current: Duration

  package init(first: Duration, longest: Duration, runtime: Runtime = .system) {
    self.first = first
    self.longest = longest
    self.runtime = runtime
    self.current = first
  }

  package mutating func next() -> Duration {
    defer { self.current = min(self.current * 2, self.longest) }
    var generator = self.runtime.generator
    return self.current * Double.random(in: 0.5...1, using: &generator)
  }

  package mutating func reset() { self.current = self.first }
}
