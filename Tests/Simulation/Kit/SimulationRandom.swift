/// Numbers from a seed (SplitMix64): the same ones on every machine and in every process.
public struct SimulationRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  public init(seed: UInt64) { self.state = seed }

  public mutating func next() -> UInt64 {
    self.state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = self.state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// A stream of its own, so that what one part draws does not move what another draws.
  public mutating func fork() -> SimulationRandom { SimulationRandom(seed: self.next()) }

  /// - Parameter probability: 0 for never, 1 for always; nothing is drawn for either.
  public mutating func chance(_ probability: Double) -> Bool {
    guard probability > 0 else { return false }
    return probability >= 1 || Double(self.next() >> 11) * 0x1p-53 < probability
  }

  public mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[self.index(below: elements.count)]
  }

  /// - Parameter count: more than 0.
  public mutating func index(below count: Int) -> Int {
    Int((self.next().multipliedFullWidth(by: UInt64(count))).high)
  }

  public mutating func within(_ range: ClosedRange<Int>) -> Int {
    range.lowerBound + self.index(below: range.count)
  }

  public mutating func within(_ range: ClosedRange<Duration>) -> Duration {
    let width = range.upperBound - range.lowerBound
    return range.lowerBound + width * (Double(self.next() >> 11) * 0x1p-53)
  }
}

// MARK: What goes wrong in a seed

extension SimulationRandom {
  /// Some amount in a share of the seeds, and 0 in the others.
  public mutating func amount(_ range: ClosedRange<Double>, in share: Double) -> Double {
    guard self.chance(share) else { return 0 }
    return range.lowerBound + (range.upperBound - range.lowerBound) * Double(self.index(below: 1_001)) / 1_000
  }

  /// Pauses of some length in a share of the seeds, and nil in the others.
  /// - Parameter longest: seconds.
  public mutating func pauses(
    from shortest: Duration, longest: ClosedRange<Int>, in share: Double
  ) -> ClosedRange<Duration>? {
    guard self.chance(share) else { return nil }
    return shortest ... .seconds(self.within(longest))
  }
}
