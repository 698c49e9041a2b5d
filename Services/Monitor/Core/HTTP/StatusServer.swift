import FlyingFox
import FlyingSocks
import Foundation
package import ServiceKit
import ServiceLifecycle

/// `/healthz`, `/metrics`, the status page and its data over HTTP. Reads only.
package struct StatusServer: Service {
  /// Host and real port.
  package let address: String
  private let server: HTTPServer
  private let running: Task<Void, any Error>

  /// Binds and begins to serve.
  /// - Parameters:
  ///   - text: host and port, e.g. "127.0.0.1:7480"; port 0 for a free one. The host is an IPv4 address or "localhost".
  ///   - token: what a caller must show as `Authorization: Bearer TOKEN` or `?token=TOKEN`; may be empty on loopback only.
  ///   - busMetrics: the bus's lines for `/metrics`.
  /// - Throws: ``MonitorError`` `.address` where it is malformed, taken, or open to others without a token.
  package init(
    monitor: Monitor, bind text: String, token: String, metrics: MetricsRegistry,
    busMetrics: @escaping @Sendable () -> String = { "" }
  ) async throws {
    let (host, port) = try Self.parse(text)
    guard host.hasPrefix("127.") || !token.isEmpty else {
      throw MonitorError(
        .address,
        "monitor.http is \(text), which others can reach: set monitor.http-token, or bind to 127.0.0.1.")
    }
    let server = HTTPServer(address: try .inet(ip4: host, port: port), timeout: 10, logger: .disabled)
    let guarded = Gate(token: token)
    await server.appendRoute("GET /healthz") { _ in
      HTTPResponse(
        statusCode: .ok, headers: Self.headers("text/plain; charset=utf-8"), body: Data("ok\n".utf8))
    }
    await server.appendRoute("GET /metrics") { request in
      await guarded.answer(request, "text/plain; version=0.0.4; charset=utf-8") {
        await monitor.report.record(in: metrics)
        let page = MetricsPage(
          own: metrics.renderPrometheus() + busMetrics(), others: await monitor.serviceMetrics)
        return Data(page.text.utf8)
      }
    }
    await server.appendRoute("GET /api/status") { request in
      await guarded.answer(request, "application/json") { await monitor.report.json }
    }
    for (path, type, body) in [
      ("/", "text/html; charset=utf-8", StatusPage.html),
      ("/status.css", "text/css; charset=utf-8", StatusPage.css),
      ("/status.js", "text/javascript; charset=utf-8", StatusPage.script),
    ] {
      await server.appendRoute(HTTPRoute("GET \(path)")) { request in
        // Style and script hold nothing of the fleet, and a browser asks for them without the token.
        path == "/"
          ? await guarded.answer(request, type) { Data(body.utf8) }
          : HTTPResponse(statusCode: .ok, headers: Self.headers(type), body: Data(body.utf8))
      }
    }
    self.server = server
    let running = Task { try await server.run() }
    self.running = running
    self.address = try await Self.listen(server, running, text, host)
  }

  private static func listen(
    _ server: HTTPServer, _ running: Task<Void, any Error>, _ text: String, _ host: String
  ) async throws -> String {
    let listening = Task { try await server.waitUntilListening(timeout: 5) }
    // A server that fails never listens.
    let watch = Task {
      _ = await running.result
      listening.cancel()
    }
    defer { watch.cancel() }
    do {
      try await listening.value
    } catch {
      running.cancel()
      var reason = "\(error)"
      if case .failure(let cause) = await running.result { reason = "\(cause)" }
      throw MonitorError(
        .address, "Cannot serve HTTP at \(text): \(reason). Is the port in use? Choose another monitor.http.")
    }
    guard case .ip4(_, let port)? = await server.listeningAddress else { return text }
    return "\(host):\(port)"
  }

  private static func parse(_ text: String) throws(MonitorError) -> (host: String, port: UInt16) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let host = parts.first == "localhost" ? "127.0.0.1" : String(parts.first ?? "")
    let bytes = host.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, let port = UInt16(parts[1]), bytes.count == 4,
      bytes.allSatisfy({ UInt8($0) != nil })
    else {
      throw MonitorError(
        .address, "monitor.http is '\(text)'; it must be an IPv4 address and a port, e.g. 127.0.0.1:7480.")
    }
    return (host, port)
  }

  package func run() async throws {
    // Ends by itself only where the socket fails.
    try await cancelWhenGracefulShutdown {
      try await withTaskCancellationHandler {
        do { try await self.running.value } catch {
          guard !Task.isCancelled else { return }
          throw error
        }
      } onCancel: {
        self.running.cancel()
      }
    }
  }

  static func headers(_ type: String) -> HTTPHeaders {
    [
      .contentType: type, HTTPHeader("Cache-Control"): "no-store",
      HTTPHeader("X-Content-Type-Options"): "nosniff", HTTPHeader("Referrer-Policy"): "no-referrer",
      HTTPHeader("Content-Security-Policy"):
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ]
  }
}

/// Lets through who shows the token.
private struct Gate: Sendable {
  let token: String

  func answer(_ request: HTTPRequest, _ type: String, _ body: () async -> Data) async -> HTTPResponse {
    guard self.isAllowed(request) else {
      return HTTPResponse(
        statusCode: .unauthorized,
        headers: StatusServer.headers("text/plain; charset=utf-8").merging(
          "Bearer", .init("WWW-Authenticate")),
        body: Data("Show monitor.http-token as 'Authorization: Bearer TOKEN' or '?token=TOKEN'.\n".utf8))
    }
    return HTTPResponse(statusCode: .ok, headers: StatusServer.headers(type), body: await body())
  }

  private func isAllowed(_ request: HTTPRequest) -> Bool {
    guard !self.token.isEmpty else { return true }
    let shown = [
      request.headers[.authorization].flatMap { $0.hasPrefix("Bearer ") ? String($0.dropFirst(7)) : nil },
      request.query.first { $0.name == "token" }?.value,
    ]
    return shown.contains { Self.isEqual($0 ?? "", self.token) }
  }

  /// Takes as long for a wrong text as for a right one.
  private static func isEqual(_ a: String, _ b: String) -> Bool {
    let a = Array(a.utf8)
    let b = Array(b.utf8)
    return b.indices.reduce(UInt8(a.count == b.count ? 0 : 1)) { $0 | (b[$1] ^ ($1 < a.count ? a[$1] : 0)) }
      == 0
  }
}

extension HTTPHeaders {
  fileprivate func merging(_ value: String, _ name: HTTPHeader) -> HTTPHeaders {
    var headers = self
    headers[name] = value
    return headers
  }
}
