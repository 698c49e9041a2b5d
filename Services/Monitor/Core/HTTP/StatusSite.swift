import Foundation
import NIOCore
import NIOHTTP1
import Schemas
import ServiceKit

/// Which request gets which answer. Reads only, and never waits: what it shows lies on the ``StatusBoard``.
struct StatusSite: Sendable {
  struct Answer {
    var status: HTTPResponseStatus
    var headers: HTTPHeaders
    var body: ByteBuffer

    init(_ status: HTTPResponseStatus, _ type: String, _ body: Data, _ more: [(String, String)] = []) {
      self.status = status
      self.headers = StatusSite.headers(type)
      self.headers.add(contentsOf: more)
      self.body = ByteBuffer(bytes: body)
    }

    /// A line for people.
    init(_ status: HTTPResponseStatus, _ line: String, _ more: [(String, String)] = []) {
      self.init(status, "text/plain; charset=utf-8", Data("\(line)\n".utf8), more)
    }
  }

  private let board: StatusBoard
  private let vitals: Vitals
  private let token: String
  private let hosts: HostRule

  init(board: StatusBoard, vitals: Vitals, token: String, hosts: HostRule) {
    self.board = board
    self.vitals = vitals
    self.token = token
    self.hosts = hosts
  }

  /// - Parameter request: without a body.
  func answer(_ request: HTTPRequestHead) -> Answer {
    guard [.GET, .HEAD].contains(request.method) else {
      return Answer(
        .methodNotAllowed, "This page can only be read: GET or HEAD.", [("Allow", "GET, HEAD")])
    }
    let named = request.headers["Host"]
    guard named.count == 1 else {
      return Answer(.badRequest, "Send one Host header.")
    }
    guard self.hosts.allows(named[0]) else {
      return Answer(
        .misdirectedRequest,
        "This is not the server of that name. Where it should be, add the name to monitor.http-hosts.")
    }
    guard request.uri.hasPrefix("/") else { return Answer(.badRequest, "Ask for a path.") }
    let parts = request.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let query = parts.count > 1 ? parts[1] : ""
    switch parts[0] {
    // Style and script hold nothing of the fleet, and a browser asks for them without the token.
    case "/status.css": return Answer(.ok, "text/css; charset=utf-8", Data(StatusPage.css.utf8))
    case "/status.js": return Answer(.ok, "text/javascript; charset=utf-8", Data(StatusPage.script.utf8))
    case "/healthz": return self.health
    case "/":
      return self.guarded(request, query, "text/html; charset=utf-8") { Data(StatusPage.html.utf8) }
    case "/metrics":
      return self.guarded(request, query, "text/plain; version=0.0.4; charset=utf-8") {
        self.board.metricsPage
      }
    case "/api/status": return self.guarded(request, query, "application/json") { self.board.json }
    default: return Answer(.notFound, "There is /, /api/status, /metrics and /healthz.")
    }
  }

  private var health: Answer {
    let broken = self.vitals.broken.map(\.part)
    return broken.isEmpty
      ? Answer(.ok, "ok") : Answer(.serviceUnavailable, "broken: \(broken.joined(separator: ", "))")
  }

  // MARK: The token

  private func guarded(
    _ request: HTTPRequestHead, _ query: Substring, _ type: String, _ body: () -> Data
  ) -> Answer {
    guard self.isAllowed(request, query) else {
      return Answer(
        .unauthorized, "Show monitor.http-token as 'Authorization: Bearer TOKEN' or '?token=TOKEN'.",
        [("WWW-Authenticate", "Bearer")])
    }
    return Answer(.ok, type, body())
  }

  private func isAllowed(_ request: HTTPRequestHead, _ query: Substring) -> Bool {
    guard !self.token.isEmpty else { return true }
    let bearer = request.headers.first(name: "Authorization").flatMap {
      $0.hasPrefix("Bearer ") ? String($0.dropFirst("Bearer ".count)) : nil
    }
    let asked = query.split(separator: "&").first { $0.hasPrefix("token=") }?.dropFirst("token=".count)
      .replacing("+", with: " ").removingPercentEncoding
    return [bearer, asked].contains { Self.isEqual($0 ?? "", self.token) }
  }

  /// Takes as long for a wrong text as for a right one.
  private static func isEqual(_ a: String, _ b: String) -> Bool {
    let a = Array(a.utf8)
    let b = Array(b.utf8)
    return b.indices.reduce(UInt8(a.count == b.count ? 0 : 1)) { $0 | (b[$1] ^ ($1 < a.count ? a[$1] : 0)) }
      == 0
  }

  private static func headers(_ type: String) -> HTTPHeaders {
    [
      "Content-Type": type, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
      "Referrer-Policy": "no-referrer",
      "Content-Security-Policy":
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ]
  }
}
