import Schemas
import Testing

@testable import RolloutCore

/// An older copy of the database was put in place, and knows less of a robot than the robot does.
@Suite struct OlderDatabaseTests {
  private func moment(_ seconds: Int64) -> Moment {
    Moment(unixNanos: seconds * 1_000_000_000, uptimeNanos: seconds * 1_000_000_000)
  }

  /// A robot that is known without a model, and about which nothing was decided.
  private func older() throws -> RolloutState {
    var state = RolloutState()
    _ = try state.report(ReportVersionRequest(robot: "r1"), epoch: 7, now: self.moment(1))
    return state
  }

  /// It follows what the lost database said at 50 s.
  private func report(generation: UInt64 = 1) -> ReportVersionRequest {
    ReportVersionRequest(
      robot: "r1", version: "v1",
      following: DesiredVersion(
        robot: "r1", version: "v1", releaseID: "release-1-lost", generation: generation, epoch: 7,
        decidedUnixNanos: 50_000_000_000))
  }

  private func release(_ version: String, _ state: inout RolloutState, at seconds: Int64) throws -> String {
    try state.createRelease(
      version: version, robots: [], reason: "", guarded: false, salt: "kept", now: self.moment(seconds))
  }

  private func rollBack(_ release: String, _ state: inout RolloutState, at seconds: Int64) throws {
    try state.rollBack(
      release, reason: "", alertID: "", evidence: "", salt: "kept", now: self.moment(seconds))
  }

  /// The robot heard "v1" as the first decision of an epoch; the copy of before knows of none, and makes its own first one.
  @Test func `decisions of two processes never share a number`() throws {
    let copy = try self.older()
    var lost = copy
    _ = try self.release("v1", &lost, at: 50)
    let follows = lost.desired("r1")

    var state = copy
    state.life = 2
    let release = try self.release("v2", &state, at: 60)
    try self.rollBack(release, &state, at: 61)
    let published = state.desired("r1")
    #expect(
      published.epoch != follows.epoch,
      "what is published is followed within an epoch, if its number is higher")
    let report = ReportVersionRequest(robot: "r1", version: "v1", following: follows)
    let answer = try state.report(report, epoch: 8, now: self.moment(62))
    #expect(!answer.remove)
    #expect(answer.version == "v1", "nobody took that back")
  }

  @Test func `a number beyond the last that is known of an epoch is none of ours`() throws {
    var state = try self.older()
    _ = try self.release("v1", &state, at: 50)
    let known = state.desired("r1")
    state.life = 2
    _ = try self.release("v2", &state, at: 60)
    var report = ReportVersionRequest(robot: "r1", version: "v1", following: known)
    #expect(try state.report(report, epoch: 8, now: self.moment(61)).version == "v2", "it is behind")
    report.following?.generation += 1
    report.following?.version = "v3"
    report.version = "v3"
    report.following?.decidedUnixNanos = 70_000_000_000
    #expect(try state.report(report, epoch: 9, now: self.moment(71)).version == "v3", "it was told so later")
  }

  @Test func `the rollback of a newer release brings back what the robot really had`() throws {
    var state = try self.older()
    let release = try self.release("v2", &state, at: 100)
    let desired = try state.report(self.report(), epoch: 8, now: self.moment(101))
    #expect(desired.version == "v2")
    try self.rollBack(release, &state, at: 110)
    #expect(state.desired("r1").version == "v1")
    #expect(!state.desired("r1").remove)
  }

  @Test func `the rollback of a release that the robot never heard of takes no model from it`() throws {
    var state = try self.older()
    let release = try self.release("v2", &state, at: 10)
    try self.rollBack(release, &state, at: 100)
    let desired = try state.report(self.report(generation: 4), epoch: 8, now: self.moment(101))
    #expect(!desired.remove)
    #expect(desired.version == "v1")
  }

  @Test func `a release that was taken back is not believed again`() throws {
    var state = try self.older()
    let release = try self.release("v2", &state, at: 10)
    let follows = state.desired("r1")
    try self.rollBack(release, &state, at: 100)
    var report = self.report()
    (report.version, report.following) = ("v2", follows)
    report.following?.epoch = 99
    #expect(try state.report(report, epoch: 8, now: self.moment(101)).remove)
  }
}
