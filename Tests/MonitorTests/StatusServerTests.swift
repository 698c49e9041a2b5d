import Foundation
import NIOCore
import ServiceKit
import ServiceLifecycle
import TestSupport
import Testing

@testable import MonitorCore

/// The server by itself, over real sockets, with bounds that a test can wait for.
@Suite("StatusServer, met by strangers", .timeLimit(.minutes(5)))
struct StatusServerTests {
  private func withServer(
    token: String = "", hosts: [String] = [], vitals: Vitals = Vitals(), limits: HTTPLimits = .init(),
    _ body: (_ port: Int) async throws -> Void
  ) async throws {
    let server = try await StatusServer(
      board: StatusBoard(metrics: MetricsRegistry()), vitals: vitals, bind: "127.0.0.1:0", token: token,
      hosts: hosts, limits: limits)
    let port = try #require(Int(server.address.split(separator: ":").last ?? ""))
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.run() }
      try await body(port)
      group.cancelAll()
    }
  }

  private func ask(
    _ port: Int, _ method: String = "GET", _ target: String = "/healthz", host: String? = "localhost",
    headers: [String] = []
  ) async throws -> String {
    let connection = try RawConnection(port: port)
    let lines =
      ["\(method) \(target) HTTP/1.1"] + (host.map { ["Host: \($0)"] } ?? []) + headers
      + ["Connection: close", "", ""]
    await connection.send(lines.joined(separator: "\r\n"))
    return try await connection.readToEnd()
  }

  private func status(
    _ port: Int, _ method: String = "GET", _ target: String = "/healthz", host: String? = "localhost",
    headers: [String] = []
  ) async throws -> Int? {
    Self.status(of: try await self.ask(port, method, target, host: host, headers: headers))
  }

  private static func status(of answer: String) -> Int? {
    answer.split(separator: " ").dropFirst().first.flatMap { Int($0) }
  }

  @Test func `HEAD is answered as GET is, without the body`() async throws {
    try await self.withServer { (port: Int) async throws -> Void in
      for target in ["/", "/healthz", "/metrics", "/api/status", "/status.css", "/nothing"] {
        let get = try await self.ask(port, "GET", target).split(separator: "\r\n\r\n", maxSplits: 1)
        let head = try await self.ask(port, "HEAD", target)
        #expect(head == "\(get[0])\r\n\r\n", "\(target)")
        #expect(get[0].lowercased().contains("content-length: \(get.last?.utf8.count ?? -1)"))
      }
    }
  }

  @Test func `what is no reading is refused, and a body is not taken`() async throws {
    try await self.withServer { (port: Int) async throws -> Void in
      for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let answer = try await self.ask(port, method)
        #expect(answer.hasPrefix("HTTP/1.1 405 "), "\(method)")
        #expect(answer.contains("Allow: GET, HEAD\r\n"))
      }
      for header in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        #expect(try await self.status(port, headers: [header]) == 413)
      }
      let connection = try RawConnection(port: port)
      await connection.send("this is not HTTP\r\n\r\n")
      #expect(Self.status(of: try await connection.readToEnd()) == 400)
    }
  }

  @Test func `a page from elsewhere that calls itself by another name gets nothing`() async throws {
    try await self.withServer(hosts: ["monitor"]) { (port: Int) async throws -> Void in
      for host in ["localhost", "LOCALHOST:\(port)", "127.0.0.1", "[::1]:80", "monitor:7480"] {
        #expect(try await self.status(port, host: host) == 200, "\(host)")
      }
      for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", ""] {
        #expect(try await self.status(port, host: host) == 421, "\(host)")
      }
      #expect(try await self.status(port, host: nil) == 400)
      #expect(try await self.status(port, headers: ["Host: monitor"]) == 400)
    }
  }

  @Test func `a target or headers over their bound are refused before they are parsed`() async throws {
    try await self.withServer { (port: Int) async throws -> Void in
      let target = String(repeating: "a", count: 9_000)
      #expect(try await self.status(port, "GET", "/\(target)") == 431)
      #expect(try await self.status(port, headers: ["X: \(target)"]) == 431)
      let header = String(repeating: "b", count: 7_000)
      let five = (0..<5).map { "X\($0): \(header)" }
      #expect(try await self.status(port, headers: five) == 431)
      let many = (0..<200).map { "X\($0): b" }
      #expect(try await self.status(port, headers: many) == 431)
      #expect(try await self.status(port, headers: Array(five.prefix(4))) == 200)
    }
  }

  @Test func `slow and idle connections are ended`() async throws {
    var limits = HTTPLimits()
    limits.firstRequest = .milliseconds(300)
    limits.nextRequest = .milliseconds(300)
    try await self.withServer(limits: limits) { (port: Int) async throws -> Void in
      // Each read below ends because the server closes, or fails after a minute.
      let silent = try RawConnection(port: port)
      let slow = try RawConnection(port: port)
      await slow.send("GET /healthz HTTP/1.1\r\nHost: local")
      let idle = try RawConnection(port: port)
      await idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
      #expect(try await silent.readToEnd() == "")
      #expect(try await slow.readToEnd() == "")
      #expect(Self.status(of: try await idle.readToEnd()) == 200)
    }
  }

  @Test func `a connection serves one request after the other`() async throws {
    try await self.withServer { (port: Int) async throws -> Void in
      let connection = try RawConnection(port: port)
      for _ in 0..<3 {
        await connection.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(Self.status(of: try await connection.read(until: "\r\n\r\nok\n")) == 200)
      }
    }
  }

  @Test func `connections beyond the bound cost whoever uses its own least`() async throws {
    var limits = HTTPLimits()
    limits.connections = 8
    try await self.withServer(limits: limits) { (port: Int) async throws -> Void in
      let slow = try (0..<50).map { _ in try RawConnection(port: port) }
      #expect(try await self.status(port) == 200)
      // All but the last were closed, long before their time was over.
      for connection in slow.prefix(40) { #expect(try await connection.readToEnd() == "") }
    }
  }

  @Test func `who asks and does not read is ended`() async throws {
    try await self.withServer { (port: Int) async throws -> Void in
      let connection = try RawConnection(port: port)
      // More than the kernel holds in both directions.
      let requests = String(repeating: "GET /status.js HTTP/1.1\r\nHost: localhost\r\n\r\n", count: 400_000)
      #expect(await connection.send(requests) == false)
    }
  }

  @Test func `a broken part is told`() async throws {
    let vitals = Vitals()
    try await self.withServer(vitals: vitals) { (port: Int) async throws -> Void in
      vitals.fail("database", "disk full")
      let broken = try await self.ask(port)
      #expect(broken.hasPrefix("HTTP/1.1 503 "))
      #expect(broken.hasSuffix("broken: database\n"))
      vitals.recover("database")
      #expect(try await self.status(port) == 200)
    }
  }

  @Test func `open connections do not hold up the end`() async throws {
    var open: [RawConnection] = []
    try await self.withServer { (port: Int) async throws -> Void in
      open = try (0..<20).map { _ in try RawConnection(port: port) }
      for connection in open { await connection.send("GET / HTTP/1.1\r\n") }
    }
    for connection in open { #expect(try await connection.readToEnd() == "") }
  }
}

@Suite("HTTP rules, as values")
struct HTTPRuleTests {
  @Test func `where every address is bound, an address is a right name`() {
    let everywhere = HostRule(bound: "0.0.0.0", more: [])
    #expect(everywhere.allows("10.1.2.3:7480"))
    #expect(!everywhere.allows("10.1.2.3.evil.example"))
    #expect(!everywhere.allows("evil.example"))
    let one = HostRule(bound: "10.1.2.3", more: ["Fleet.Example"])
    #expect(one.allows("10.1.2.3"))
    #expect(!one.allows("10.1.2.4"))
    #expect(one.allows("fleet.example:80"))
    for host in ["localhost:80:80", "localhost@evil", "[::1", "[::1]x", "localhost:x"] {
      #expect(!one.allows(host), "\(host)")
    }
  }

  private final class Token {}

  @Test func `room is made at the cost of the address with the most connections`() {
    let tokens = (0..<6).map { _ in Token() }
    let ids = tokens.map { ObjectIdentifier($0) }
    var table = ConnectionTable(capacity: 4)
    #expect(table.add(ids[0], address: "a") == nil)
    #expect(table.add(ids[1], address: "b") == nil)
    #expect(table.add(ids[2], address: "b") == nil)
    #expect(table.add(ids[3], address: "b") == nil)
    table.use(ids[1])
    // Not a's, which is older; of b's the one without a use for longest.
    #expect(table.add(ids[4], address: "c") == ids[2])
    #expect(table.count == 4)
    table.remove(ids[3])
    #expect(table.add(ids[5], address: "c") == nil)
    #expect(table.count == 4)
    withExtendedLifetime(tokens) {}
  }
}
