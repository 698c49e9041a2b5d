import Bus
import Foundation
import FoundationNetworking
import GRPCCore
import Schemas
import TestSupport
import Testing

@testable import MonitorCore

/// The monitor as it really is; robots and ingest are sockets of the test.
@Suite("The monitor executable")
struct MonitorServiceTests {
  private typealias Client = MonitorService.Client<ZeroMQClientTransport>

  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  private func ipc(_ name: String) -> String { "ipc://\(self.folder.path)/\(name)" }

  private func monitor(_ more: [String: String] = [:]) async throws -> ServiceUnderTest {
    try await ServiceUnderTest(
      "monitor",
      settings: [
        "monitor.data": "\(self.folder.path)/monitor", "monitor.rpc": self.ipc("m"),
        "monitor.publications": self.ipc("mp"), "monitor.telemetry": self.ipc("mt"),
        "monitor.http": "127.0.0.1:0", "ingest.rpc": self.ipc("i"), "ingest.publications": self.ipc("ip"),
        "rollout.rpc": self.ipc("r"), "training.rpc": self.ipc("t"), "inference.rpc": self.ipc("f"),
        "monitor.poll-milliseconds": "100", "monitor.offline-seconds": "1",
      ].merging(more) { _, new in new })
  }

  private func withMonitor<Result: Sendable>(
    _ body: @Sendable (Client) async throws -> Result
  ) async throws -> Result {
    try await withGRPCClient(
      transport: try ZeroMQClientTransport(connect: try Endpoint(self.ipc("m")))
    ) { try await body(Client(wrapping: $0)) }
  }

  private static func row(_ robot: String, _ monitor: Client) async throws -> RobotRow? {
    try await monitor.listRobots(ListRobotsRequest()).robots.first { $0.robot == robot }
  }

  /// Publishes until the test is over, as a robot does.
  private static func beat(_ robot: String, to endpoint: String) -> Task<Void, any Error> {
    Task {
      let publisher = try Publisher(.connect([try Endpoint(endpoint)]), identity: robot)
      while !Task.isCancelled {
        let heartbeat = Heartbeat(robot: robot, facility: "berlin", state: .idle, modelVersion: "v1")
        try? await publisher.publish(
          TelemetryEvent(event: .heartbeat(heartbeat)), to: .telemetry(robot: robot))
        try? await Task.sleep(for: .milliseconds(100))
      }
      await publisher.close()
    }
  }

  @Test func `the sixth failure takes one robot out of the work, and an operator lets it back`() async throws
  {
    let service = try await self.monitor()
    let outcomes = try Publisher(.bind(try Endpoint(self.ipc("ip"))), identity: "ingest")
    let health = try Subscriber(.connect([try Endpoint(self.ipc("mp"))]), topics: [.health(robot: "a")])
    let beats = ["a", "b"].map { Self.beat($0, to: self.ipc("mt")) }
    defer { for beat in beats { beat.cancel() } }
    try await self.withMonitor { monitor in
      for robot in ["a", "b"] {
        try await eventually("\(robot) is seen") { try await Self.row(robot, monitor)?.state == .idle }
      }
      // Told again and again, because the first may be lost before the monitor is connected; counted once each.
      func fail(_ count: Int) async throws {
        for index in 0..<count {
          let outcome = StoredOutcome(
            robot: "a", trialID: "t\(index)", mode: .demonstration, outcome: .failure, storedUnixNanos: 1)
          try await outcomes.publish(outcome, to: .outcomes(robot: "a"))
        }
      }
      try await eventually("five failures are counted") {
        try await fail(5)
        return try await Self.row("a", monitor)?.consecutiveFailures == 5
      }
      #expect(try await Self.row("a", monitor)?.state == .idle)
      try await eventually("the sixth is counted") {
        try await fail(6)
        return try await Self.row("a", monitor)?.state == .unhealthy
      }
      #expect(try await Self.row("b", monitor)?.state == .idle)
      var directives = health.messages.makeAsyncIterator()
      let down = try #require(await directives.next()).decode(HealthDirective.self)
      #expect(!down.healthy)
      let alerts = try await monitor.listAlerts(ListAlertsRequest()).alerts
      #expect(alerts.map(\.name) == ["RobotConsecutiveFailures"])
      let id = try #require(alerts.first).alertID
      let acknowledged = try await monitor.acknowledgeAlert(AcknowledgeAlertRequest(alertID: id, by: "ana"))
      #expect(acknowledged.state == .acknowledged)
      _ = try await monitor.resumeRobot(ResumeRobotRequest(robot: "a", by: "ana"))
      while let message = await directives.next() {
        let directive = try message.decode(HealthDirective.self)
        if directive.healthy {
          #expect(directive.generation > down.generation)
          break
        }
      }
      #expect(try await monitor.listAlerts(ListAlertsRequest()).alerts.isEmpty)
    }
    await health.close()
    await outcomes.close()
    #expect(service.terminate() == 0)
  }

  @Test func `a robot that falls silent is offline until it returns`() async throws {
    let service = try await self.monitor()
    try await self.withMonitor { monitor in
      let first = Self.beat("a", to: self.ipc("mt"))
      try await eventually("it is seen") { try await Self.row("a", monitor)?.state == .idle }
      first.cancel()
      try await eventually("it is offline") { try await Self.row("a", monitor)?.state == .offline }
      let open = try await monitor.listAlerts(ListAlertsRequest()).alerts
      #expect(open.map(\.name) == ["RobotOffline"])
      let second = Self.beat("a", to: self.ipc("mt"))
      try await eventually("it is back") {
        try await monitor.listAlerts(ListAlertsRequest()).alerts.isEmpty
      }
      second.cancel()
    }
    withExtendedLifetime(service) {}
  }

  @Test func `what happened while the monitor was dead is counted after`() async throws {
    let ingest = FakeIngest()
    let transport = try ZeroMQServerTransport(bind: try Endpoint(self.ipc("i")))
    try await withGRPCServer(transport: transport, services: [ingest]) { _ in
      ingest.store(robot: "a", version: "v1", outcomes: [.success, .failure, .failure, .failure])
      let first = try await self.monitor()
      try await self.withMonitor { monitor in
        try await eventually("what was stored before is counted") {
          try await Self.row("a", monitor)?.consecutiveFailures == 3
        }
      }
      first.kill()
      ingest.store(robot: "a", version: "v1", outcomes: [.failure, .aborted, .failure, .failure])
      let second = try await self.monitor()
      let alertID = try await self.withMonitor { monitor in
        try await eventually("six in a row are counted") {
          let row = try await Self.row("a", monitor)
          return row?.consecutiveFailures == 6 && row?.trials == 7
        }
        return try await monitor.listAlerts(ListAlertsRequest()).alerts.map(\.alertID)
      }
      #expect(alertID.count == 1)
      second.kill()
      let third = try await self.monitor()
      try await self.withMonitor { monitor in
        let row = try await Self.row("a", monitor)
        let kept = try await monitor.listAlerts(ListAlertsRequest()).alerts.map(\.alertID)
        #expect(row?.reason.contains("failures in a row") == true)
        #expect(kept == alertID)
      }
      withExtendedLifetime(third) {}
    }
  }

  @Test func `open alerts come first, then every change`() async throws {
    let service = try await self.monitor()
    let beat = Self.beat("a", to: self.ipc("mt"))
    try await self.withMonitor { monitor in
      try await eventually("it is seen") { try await Self.row("a", monitor)?.state == .idle }
      beat.cancel()
      try await eventually("it is offline") { try await Self.row("a", monitor)?.state == .offline }
      let again = Self.beat("a", to: self.ipc("mt"))
      defer { again.cancel() }
      let states = try await monitor.watchAlerts(WatchAlertsRequest()) { response in
        var states: [AlertState] = []
        for try await alert in response.messages {
          states.append(alert.state)
          if alert.state == .resolved { break }
        }
        return states
      }
      #expect(states == [.firing, .resolved])
    }
    withExtendedLifetime(service) {}
  }

  // MARK: HTTP

  private func get(_ address: String, token: String? = nil) async throws -> (status: Int, text: String) {
    var request = URLRequest(url: try #require(URL(string: address)))
    request.timeoutInterval = 10
    if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
    let (data, response) = try await URLSession.shared.data(for: request)
    return ((response as? HTTPURLResponse)?.statusCode ?? 0, String(decoding: data, as: UTF8.self))
  }

  @Test func `health, metrics, state and page are served`() async throws {
    let service = try await self.monitor()
    let base = try #require(service.endpoints["http"])
    let beat = Self.beat("a", to: self.ipc("mt"))
    defer { beat.cancel() }
    try await eventually("the robot is in the state") {
      try await self.get("\(base)api/status").text.contains(#""robot":"a""#)
    }
    #expect(try await self.get("\(base)healthz").text == "ok\n")
    let metrics = try await self.get("\(base)metrics").text
    #expect(metrics.contains(#"fleetloop_robots{state="idle"} 1.0"#))
    #expect(metrics.contains("# TYPE fleetloop_robots gauge"))
    #expect(try await self.get(base).text.contains("<title>FleetLoop</title>"))
    #expect(try await self.get("\(base)nothing").status == 404)
  }

  @Test func `one page has the metrics of every service, and says who does not answer`() async throws {
    let ingest = GRPCServer(
      transport: try ZeroMQServerTransport(bind: Endpoint(self.ipc("i"))), services: [FakeMetrics()])
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await ingest.serve() }
      defer { ingest.beginGracefulShutdown() }
      let service = try await self.monitor()
      let base = try #require(service.endpoints["http"])
      try await eventually("ingest's metrics are on the page") {
        try await self.get("\(base)metrics").text.contains(#"fleetloop_up{service="ingest"} 1"#)
      }
      let page = try await self.get("\(base)metrics").text
      #expect(page.contains(#"fleetloop_ingest_stored_total{service="ingest"} 3.0"#))
      #expect(page.contains(#"fleetloop_up{service="training"} 0"#))
    }
  }

  @Test func `a browser draws the robots`() async throws {
    let service = try await self.monitor()
    let base = try #require(service.endpoints["http"])
    let beat = Self.beat("robot-1", to: self.ipc("mt"))
    defer { beat.cancel() }
    try await eventually("the robot is in the state") {
      try await self.get("\(base)api/status").text.contains("robot-1")
    }
    let browser = Process()
    browser.executableURL = URL(filePath: "/usr/bin/chromium")
    browser.arguments = [
      "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=\(self.folder.path)/chromium",
      "--virtual-time-budget=4000", "--dump-dom", base,
    ]
    let output = Pipe()
    browser.standardOutput = output
    browser.standardError = FileHandle.nullDevice
    try browser.run()
    let page = await withCheckedContinuation { continuation in
      Thread.detachNewThread {
        let data = try? output.fileHandleForReading.readToEnd()
        continuation.resume(returning: String(decoding: data ?? Data(), as: UTF8.self))
      }
    }
    browser.waitUntilExit()
    #expect(page.contains("<td>robot-1</td>"))
    #expect(page.contains("berlin"))
    #expect(page.contains("robots at work"))
  }

  @Test func `others get in with the token only, and without one nobody is let near`() async throws {
    do {
      _ = try await self.monitor(["monitor.http": "0.0.0.0:0"])
      Issue.record("open to others without a token")
    } catch let failure as ServiceUnderTest.Failure {
      #expect(failure.description.contains("monitor.http-token"))
    }
    let service = try await self.monitor(["monitor.http": "0.0.0.0:0", "monitor.http-token": "secret"])
    let base = try #require(service.endpoints["http"]).replacing("0.0.0.0", with: "127.0.0.1")
    #expect(try await self.get("\(base)api/status").status == 401)
    #expect(try await self.get("\(base)api/status", token: "secre").status == 401)
    #expect(try await self.get("\(base)api/status", token: "secret").status == 200)
    #expect(try await self.get("\(base)metrics?token=secret").status == 200)
    #expect(try await self.get(base).status == 401)
  }

  @Test(arguments: [
    ("monitor.failur-limit", "3", "Known: "), ("monitor.failure-limit", "0", "between 1 and 1000000"),
    ("monitor.failure-limit", "many", "monitor.failure-limit"),
  ]) func `a wrong setting is wrong usage`(key: String, value: String, words: String) async throws {
    do {
      _ = try await self.monitor([key: value])
      Issue.record("started with \(key)=\(value)")
    } catch let failure as ServiceUnderTest.Failure {
      #expect(failure.status == 64)
      #expect(failure.description.contains(words))
    }
  }

  @Test func `a port in use is told`() async throws {
    let service = try await self.monitor()
    let taken = try #require(service.endpoints["http"]).dropFirst("http://".count).dropLast()
    let other = try TemporaryFolder()
    do {
      _ = try await self.monitor([
        "monitor.data": other.path, "monitor.rpc": "ipc://\(other.path)/m",
        "monitor.publications": "ipc://\(other.path)/p", "monitor.telemetry": "ipc://\(other.path)/t",
        "monitor.http": String(taken),
      ])
      Issue.record("two servers on one port")
    } catch let failure as ServiceUnderTest.Failure {
      #expect(failure.description.contains("Is the port in use?"))
    }
  }
}

private struct FakeMetrics: MetricsService.SimpleServiceProtocol {
  func getMetrics(request: GetMetricsRequest, context: ServerContext) async throws -> GetMetricsResponse {
    GetMetricsResponse(
      prometheusText: "# TYPE fleetloop_ingest_stored_total counter\nfleetloop_ingest_stored_total 3.0\n")
  }
}
