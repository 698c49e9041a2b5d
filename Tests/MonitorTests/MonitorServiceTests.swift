import Bus
import Foundation
import FoundationNetworking
import GRPCCore
import Schemas
import ServiceKit
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

  @Test func `a service that hangs is told, and its return`() async throws {
    let ingest = try await ServiceUnderTest(
      "monitor",
      settings: [
        "monitor.data": "\(self.folder.path)/other", "monitor.rpc": self.ipc("i"),
        "monitor.publications": self.ipc("op"), "monitor.telemetry": self.ipc("ot"),
        "monitor.http": "127.0.0.1:0", "monitor.services": "", "ingest.rpc": self.ipc("none"),
        "ingest.publications": self.ipc("none2"), "rollout.rpc": self.ipc("none3"),
      ])
    // Any service answers questions about its health: this one stands for ingest.
    let service = try await self.monitor(["monitor.services": "ingest", "monitor.probe-milliseconds": "50"])
    try await self.withMonitor { monitor in
      func state() async throws -> ServiceState? {
        try await monitor.listServices(ListServicesRequest()).services.first { $0.service == "ingest" }?.state
      }
      try await eventually("it serves") { try await state() == .serving }
      try ingest.pause()
      try await eventually("it hangs") { try await state() == .unresponsive }
      let open = try await monitor.listAlerts(ListAlertsRequest()).alerts
      #expect(open.map(\.name) == ["ServiceUnresponsive"])
      #expect(open.map(\.subject) == ["ingest"])
      #expect(
        try await monitor.listServices(ListServicesRequest()).services.first { $0.service == "monitor" }?
          .state
          == .serving)
      try ingest.resume()
      try await eventually("it serves again") { try await state() == .serving }
      #expect(try await monitor.listAlerts(ListAlertsRequest()).alerts.isEmpty)
    }
    withExtendedLifetime((ingest, service)) {}
  }

  @Test func `its own stall puts no robot offline`() async throws {
    let service = try await self.monitor(["monitor.offline-seconds": "3"])
    let beat = Self.beat("a", to: self.ipc("mt"))
    defer { beat.cancel() }
    try await self.withMonitor { monitor in
      try await eventually("it is seen") { try await Self.row("a", monitor)?.state == .idle }
      for _ in 0..<2 {
        try service.pause()
        // Longer than the robot may be silent.
        try await Task.sleep(for: .seconds(6))
        try service.resume()
        try await eventually("it answers") {
          let row = try await Self.row("a", monitor)
          return (row?.lastSeenUnixNanos ?? 0) > UnixNanos.now - 500_000_000
        }
      }
      #expect(try await monitor.listAlerts(ListAlertsRequest(includeResolved: true)).alerts.isEmpty)
    }
    withExtendedLifetime(service) {}
  }

  @Test func `damage in ingest's log is told`() async throws {
    let ingest = FakeIngest()
    ingest.damage([
      LogDamage(file: "trials-00000001.mcap", offset: 9, lost: [TrialName(robot: "a", trialID: "t")])
    ]
    )
    let transport = try ZeroMQServerTransport(bind: try Endpoint(self.ipc("i")))
    try await withGRPCServer(transport: transport, services: [ingest]) { _ in
      let service = try await self.monitor()
      try await self.withMonitor { monitor in
        try await eventually("the alert is raised") {
          try await monitor.listAlerts(ListAlertsRequest()).alerts.map(\.name) == ["TrialLogDamaged"]
        }
      }
      withExtendedLifetime(service) {}
    }
  }

  @Test func `work that a robot lost is told over the telemetry socket, and ends when it is acknowledged`()
    async throws
  {
    let service = try await self.monitor()
    let robot = try Publisher(.connect([try Endpoint(self.ipc("mt"))]), identity: "a")
    let lost = TelemetryEvent(
      event: .safety(SafetyEvent(robot: "a", kind: "orders-lost", detail: "orders.damaged-1")))
    try await self.withMonitor { monitor in
      // Told again and again, because the first may be lost before the robot is connected.
      try await eventually("the alert is raised") {
        try await robot.publish(lost, to: .telemetry(robot: "a"))
        return try await monitor.listAlerts(ListAlertsRequest()).alerts.map(\.name) == ["WorkLost"]
      }
      await robot.close()
      let alert = try #require(try await monitor.listAlerts(ListAlertsRequest()).alerts.first)
      #expect(alert.summary.contains("orders.damaged-1"))
      _ = try await monitor.acknowledgeAlert(AcknowledgeAlertRequest(alertID: alert.alertID, by: "ana"))
      try await eventually("it is resolved") {
        try await monitor.listAlerts(ListAlertsRequest(includeResolved: true)).alerts.first {
          $0.alertID == alert.alertID
        }?.state == .resolved
      }
    }
    withExtendedLifetime(service) {}
  }

  // MARK: HTTP

  @Test func `four requests with 300 kB of headers hold up neither calls nor the page`() async throws {
    let service = try await self.monitor()
    let base = try #require(service.endpoints["http"])
    let port = try #require(URL(string: base)?.port)
    try await self.withMonitor { monitor in
      _ = try await monitor.listRobots(ListRobotsRequest())
      #expect(try await self.get("\(base)healthz").text == "ok\n")
      let before = try service.memory().now
      let header = String(repeating: "a", count: 1_000)
      let request =
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        + (0..<300).map { "X-\($0): \(header)\r\n" }.joined() + "\r\n"
      let hostile = try (0..<4).map { _ in try RawConnection(port: port) }
      await withTaskGroup(of: Void.self) { group in
        for connection in hostile { group.addTask { await connection.send(request) } }
      }
      // Each has its own deadline: the old server did not answer within 29 s.
      for _ in 0..<20 {
        _ = try await monitor.listRobots(ListRobotsRequest(), options: .within(.seconds(5)))
        #expect(try await self.get("\(base)healthz").text == "ok\n")
      }
      for connection in hostile {
        let answer = try await connection.readToEnd()
        #expect(answer.isEmpty || answer.hasPrefix("HTTP/1.1 431 "))
      }
      #expect(try service.memory().peak - before < 64 << 20)
    }
    #expect(service.terminate() == 0)
  }

  @Test func `2,000 slow connections hold up neither calls nor the page`() async throws {
    let service = try await self.monitor()
    let base = try #require(service.endpoints["http"])
    let port = try #require(URL(string: base)?.port)
    var slow: [RawConnection] = []
    for _ in 0..<2_000 {
      let connection = try RawConnection(port: port)
      await connection.send("GET /healthz HTTP/1.1\r\nX: ")
      slow.append(connection)
      // Descriptors of this process are bounded too.
      if slow.count > 400 { slow.removeFirst(200) }
    }
    try await self.withMonitor { monitor in
      _ = try await monitor.listRobots(ListRobotsRequest(), options: .within(.seconds(5)))
    }
    #expect(try await self.get("\(base)healthz").text == "ok\n")
    #expect(service.terminate() == 0)
    withExtendedLifetime(slow) {}
  }

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

private enum UnixNanos {
  static var now: Int64 { Int64(Date.now.timeIntervalSince1970 * 1e9) }
}

private struct FakeMetrics: MetricsService.SimpleServiceProtocol {
  func getMetrics(request: GetMetricsRequest, context: ServerContext) async throws -> GetMetricsResponse {
    GetMetricsResponse(
      prometheusText: "# TYPE fleetloop_ingest_stored_total counter\nfleetloop_ingest_stored_total 3.0\n")
  }
}
