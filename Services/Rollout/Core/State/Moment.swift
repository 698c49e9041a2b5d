/// When something happens, on both clocks: one for people, which may jump, and one for durations, which nobody sets.
package struct Moment: Sendable, Hashable {
  /// Nanoseconds since 1970, UTC.
  package var unixNanos: Int64
  /// Nanoseconds since this process began.
  package var uptimeNanos: Int64

  package init(unixNanos: Int64, uptimeNanos: Int64) {
    self.unixNanos = unixNanos
    self.uptimeNanos = uptimeNanos
  }
}
