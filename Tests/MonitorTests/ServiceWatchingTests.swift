import Schemas
import Testing

@testable import MonitorCore

@Suite("Services' health, as a value")
struct ServiceWatchingTests {
  private var state = MonitorState()

  private mutating func hear(_ answers: HealthAnswer..., now: Int64 = 1) {
    for answer in answers { self.state.hear(answer, of: "ingest", salt: "s", now: now) }
  }

  private var open: [String] { self.state.alerts.list(includeResolved: false).map(\.name) }
  private static let silence = HealthAnswer.none("no answer within 2 s")

  @Test mutating func `what was said of a service ends where it is watched no more`() {
    self.hear(.serving, Self.silence, Self.silence, Self.silence)
    self.state.hear(.notServing("log"), of: "rollout", salt: "s", now: 1)
    #expect(self.open.count == 2)
    self.state.watch(services: ["rollout", "training"], now: 2)
    #expect(self.open == ["ServiceNotServing"])
    #expect(self.state.services.keys.sorted() == ["rollout"])
    #expect(self.state.alerts.list(includeResolved: true).map(\.resolvedUnixNanos).sorted() == [0, 2])
  }

  @Test
  mutating func `a service that answers no more is told at the third question, and resolved with an answer`()
    throws
  {
    self.hear(.serving, now: 5)
    self.hear(Self.silence, Self.silence, now: 6)
    #expect(self.open.isEmpty)
    #expect(self.state.services["ingest"]?.state == .serving)
    self.hear(Self.silence, now: 7)
    let alert = try #require(self.state.alerts.list(includeResolved: false).first)
    #expect(alert.name == "ServiceUnresponsive")
    #expect(alert.severity == .critical)
    #expect(alert.subject == "ingest")
    #expect(alert.labels["service"] == "ingest")
    #expect(!alert.remedy.isEmpty)
    #expect(
      self.state.services["ingest"]?.row
        == ServiceRow(
          service: "ingest", state: .unresponsive, sinceUnixNanos: 7, answeredUnixNanos: 5,
          detail: "no answer within 2 s"))
    self.hear(Self.silence, now: 8)
    #expect(self.state.alerts.list(includeResolved: true).count == 1)
    self.hear(.serving, now: 9)
    #expect(self.open.isEmpty)
    #expect(
      self.state.services["ingest"]?.row
        == ServiceRow(service: "ingest", state: .serving, sinceUnixNanos: 9, answeredUnixNanos: 9))
  }

  @Test mutating func `one lost answer now and then is no trouble`() {
    self.hear(.serving)
    for _ in 0..<20 { self.hear(Self.silence, Self.silence, .serving) }
    #expect(self.state.alerts.list(includeResolved: true).isEmpty)
  }

  @Test mutating func `one that never answered yet has the time to start`() {
    for _ in 0..<(self.state.limits.firstProbes - 1) { self.hear(.none("no connection")) }
    #expect(self.state.services["ingest"]?.state == .unspecified)
    #expect(self.open.isEmpty)
    self.hear(.none("no connection"))
    #expect(self.open == ["ServiceUnresponsive"])
  }

  @Test mutating func `a service that says it cannot do its work is told, with what is broken`() throws {
    self.hear(.serving, .notServing("trial log: disk full"))
    let alert = try #require(self.state.alerts.list(includeResolved: false).first)
    #expect(alert.name == "ServiceNotServing")
    #expect(alert.summary.contains("trial log: disk full"))
    #expect(self.state.services["ingest"]?.state == .notServing)
    // It falls silent: then that is the trouble.
    self.hear(Self.silence, Self.silence)
    #expect(self.open == ["ServiceNotServing"])
    self.hear(Self.silence)
    #expect(self.open == ["ServiceUnresponsive"])
    self.hear(.serving)
    #expect(self.open.isEmpty)
  }

  @Test mutating func `each service has its own alert`() {
    self.hear(.serving, Self.silence, Self.silence, Self.silence)
    self.state.hear(.notServing("x"), of: "rollout", salt: "s", now: 1)
    self.state.hear(.notServing("x"), of: "training", salt: "s", now: 1)
    #expect(self.open.sorted() == ["ServiceNotServing", "ServiceNotServing", "ServiceUnresponsive"])
    self.state.hear(.serving, of: "rollout", salt: "s", now: 1)
    #expect(
      Set(self.state.alerts.list(includeResolved: false).map(\.subject)) == ["ingest", "training"])
  }
}

@Suite("Damage in ingest's log, as a value")
struct LogDamageTests {
  private let damage = LogDamage(
    file: "trials-00000001.mcap", offset: 4_096, bytes: 100,
    lost: [TrialName(robot: "a", trialID: "t1"), TrialName(robot: "b", trialID: "t2")], lostUnnamed: 3,
    fingerprint: 0xCAFE)

  @Test func `damage is told with file and trials, until it is acknowledged`() throws {
    var state = MonitorState()
    for _ in 0..<3 { state.hear(damages: [self.damage], salt: "s", now: 1) }
    #expect(state.alerts.list(includeResolved: true).count == 1)
    let alert = try #require(state.alerts.list(includeResolved: false).first)
    #expect(alert.severity == .critical)
    for words in ["trials-00000001.mcap", "4096", "a/t1", "b/t2", "3 more"] {
      #expect(alert.summary.contains(words), "\(words)")
    }
    #expect(alert.subject == "trials-00000001.mcap:4096:cafe")
    #expect(alert.remedy.hasSuffix("fleet alerts acknowledge \(alert.alertID)"))
    // That ingest was started anew and tells no more of it brings nothing back.
    state.hear(damages: [], salt: "s", now: 2)
    #expect(state.alerts.list(includeResolved: false).count == 1)
    _ = try state.alerts.acknowledge(alert.alertID, by: "ana")
    state.tick(salt: "s", now: 3, instant: .now)
    #expect(state.alerts.list(includeResolved: false).isEmpty)
    state.hear(damages: [self.damage], salt: "s", now: 4)
    #expect(state.alerts.list(includeResolved: true).count == 1)
    // Another place is other damage, and so is something else in the same place.
    var (other, again) = (self.damage, self.damage)
    other.offset = 8_192
    again.fingerprint = 1
    state.hear(damages: [self.damage, other, again], salt: "s", now: 5)
    #expect(state.alerts.list(includeResolved: false).count == 2)
  }

  @Test func `damage that may be a torn write is said to be one`() throws {
    var state = MonitorState()
    var torn = self.damage
    torn.mayBeTorn = true
    state.hear(damages: [torn], salt: "s", now: 1)
    let alert = try #require(state.alerts.list(includeResolved: false).first)
    #expect(alert.severity == .warning)
    #expect(alert.summary.contains("Perhaps lost: a/t1"))
  }

  @Test func `numbers of any size and long lists do no harm`() {
    var state = MonitorState()
    let lost = (0..<5_000).map { TrialName(robot: "robot", trialID: "trial-\($0)") }
    state.hear(
      damages: [LogDamage(file: "f", offset: .max, bytes: .max, lost: lost, lostUnnamed: .max)], salt: "s",
      now: 1)
    #expect(state.alerts.list(includeResolved: false).first?.summary.utf8.count ?? .max < 2_000)
  }
}
