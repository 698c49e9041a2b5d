import Schemas

@testable import RolloutCore

/// Both clocks at once, for tests that need no more.
extension Moment: ExpressibleByIntegerLiteral {
  public init(integerLiteral value: Int64) { self.init(unixNanos: value, uptimeNanos: value) }

  static func at(_ time: Int) -> Moment { Moment(integerLiteral: Int64(time)) }
}

extension RolloutState {
  mutating func report(_ report: ReportVersionRequest, now: Moment) throws(RolloutError) -> DesiredVersion {
    try self.report(report, epoch: .random(in: 1 ... .max), now: now)
  }
}
