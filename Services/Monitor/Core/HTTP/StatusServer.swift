import NIOCore
import NIOHTTP1
import NIOPosix
package import ServiceKit
import ServiceLifecycle

/// `/healthz`, `/metrics`, the status page and its data over HTTP, on a thread of its own. Reads only.
package struct StatusServer: Service {
  /// Host and real port.
  package let address: String
  private let group: MultiThreadedEventLoopGroup
  private let listener: any Channel

  /// Binds and begins to serve.
  /// - Parameters:
  ///   - text: host and port, e.g. "127.0.0.1:7480"; port 0 for a free one. The host is an IPv4 address or "localhost".
  ///   - token: what a caller must show as `Authorization: Bearer TOKEN` or `?token=TOKEN`; may be empty on loopback only.
  ///   - hosts: names besides the bound one under which callers may know this server.
  ///   - vitals: what `/healthz` tells.
  /// - Throws: ``MonitorError`` `.address` where it is malformed, taken, or open to others without a token.
  package init(
    board: StatusBoard, vitals: Vitals, bind text: String, token: String, hosts: [String] = [],
    limits: HTTPLimits = .init()
  ) async throws {
    let (host, port) = try Self.parse(text)
    guard host.hasPrefix("127.") || !token.isEmpty else {
      throw MonitorError(
        .address,
        "monitor.http is \(text), which others can reach: set monitor.http-token, or bind to 127.0.0.1.")
    }
    let site = StatusSite(
      board: board, vitals: vitals, token: token, hosts: HostRule(bound: host, more: hosts))
    // One thread: what is drawn is drawn once, and a flood of requests takes one core at most.
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let connections = Connections(on: group.next(), capacity: limits.connections)
    do {
      self.listener = try await ServerBootstrap(group: group)
        .serverChannelOption(.backlog, value: 256)
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .childChannelOption(.maxMessagesPerRead, value: 1)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try Self.addHandlers(to: channel, site: site, limits: limits, connections: connections)
          }
        }
        .bind(host: host, port: port).get()
    } catch {
      try? await group.shutdownGracefully()
      throw MonitorError(
        .address, "Cannot serve HTTP at \(text): \(error). Is the port in use? Choose another monitor.http.")
    }
    self.group = group
    self.address = "\(host):\(self.listener.localAddress?.port ?? port)"
  }

  private static func addHandlers(
    to channel: any Channel, site: StatusSite, limits: HTTPLimits, connections: Connections
  ) throws {
    var bounds = NIOHTTPDecoderLimitConfiguration()
    bounds.maxHeaderFieldSize = limits.fieldBytes
    bounds.maxHeaderListSize = limits.headBytes
    bounds.maxHeaderFieldCount = limits.headerCount
    connections.add(channel)
    try channel.pipeline.syncOperations.addHandlers([
      ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .dropBytes, limitConfiguration: bounds)),
      HTTPResponseEncoder(),
      RequestHandler(site: site, limits: limits) { connections.use(channel) },
    ])
  }

  private static func parse(_ text: String) throws(MonitorError) -> (host: String, port: Int) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let host = parts.first == "localhost" ? "127.0.0.1" : String(parts.first ?? "")
    guard parts.count == 2, let port = UInt16(parts[1]), HostRule.isAddress(host) else {
      throw MonitorError(
        .address, "monitor.http is '\(text)'; it must be an IPv4 address and a port, e.g. 127.0.0.1:7480.")
    }
    return (host, Int(port))
  }

  package func run() async throws {
    // Ends by itself only where the socket fails.
    try await cancelWhenGracefulShutdown {
      try await withTaskCancellationHandler {
        try await self.listener.closeFuture.get()
      } onCancel: {
        self.listener.close(promise: nil)
      }
    }
    // Closes every connection: nobody who is slow holds up the end.
    try await self.group.shutdownGracefully()
  }
}

/// The open connections; belongs to the server's one thread.
private final class Connections: Sendable {
  private struct Open {
    var table: ConnectionTable
    var channels: [ConnectionTable.ID: any Channel] = [:]
  }

  private let open: NIOLoopBoundBox<Open>

  init(on loop: any EventLoop, capacity: Int) {
    self.open = .makeBoxSendingValue(Open(table: ConnectionTable(capacity: capacity)), eventLoop: loop)
  }

  func add(_ channel: any Channel) {
    let id = ObjectIdentifier(channel)
    if let victim = self.open.value.table.add(id, address: channel.remoteAddress?.ipAddress ?? "") {
      self.open.value.channels.removeValue(forKey: victim)?.close(promise: nil)
    }
    self.open.value.channels[id] = channel
    channel.closeFuture.whenComplete { _ in
      self.open.value.table.remove(id)
      self.open.value.channels[id] = nil
    }
  }

  func use(_ channel: any Channel) { self.open.value.table.use(ObjectIdentifier(channel)) }
}
