package import Bus
import DequeModule
import GRPCCore
package import Schemas
import ServiceKit

/// Lines to robots' agents: a connection for each question, and no more at a time than the process has descriptors and threads for.
///
/// A command that asks no robot makes none; one that stops a thousand must not run out of descriptors half way.
package actor RobotLines {
  package typealias Robot = RobotService.Client<ZeroMQClientTransport>

  /// What a connection takes: its socket's, its loop's and its context's.
  private static let descriptorsPerLine = 10
  /// Left to everything else in the process.
  private static let spared = 96
  /// A line has three threads, which a process may not have without end either.
  private static let most = 64

  /// Robots whose address is well formed, in order.
  nonisolated let names: [String]
  /// Why a robot of the configuration cannot be called.
  private nonisolated let unreachable: [String: String]
  private let endpoints: [String: String]
  private let keys: String
  private var free: Int
  private var waiting: Deque<CheckedContinuation<Void, Never>> = []

  /// - Parameters:
  ///   - endpoints: of each robot's agent, by name.
  ///   - keys: folder of keys; empty for none.
  init(_ endpoints: [String: String], keys: String) {
    var unreachable: [String: String] = [:]
    for (robot, endpoint) in endpoints {
      do { _ = try Endpoint(endpoint) } catch {
        unreachable[robot] = "cannot be called at \(endpoint): \(error)"
      }
    }
    self.names = endpoints.keys.filter { unreachable[$0] == nil }.sorted()
    self.unreachable = unreachable
    self.endpoints = endpoints
    self.keys = keys
    self.free = Self.lines(descriptors: DescriptorLimit.raise())
  }

  /// Lines at a time of a process that may have so many descriptors.
  static func lines(descriptors: Int) -> Int {
    min(Self.most, max(1, (descriptors - Self.spared) / Self.descriptorsPerLine))
  }

  /// Asks one robot, in its turn where there are more than lines.
  /// - Throws: ``FleetError`` `.refused` where it has no address or cannot be called there; what `question` throws.
  func ask<Answer: Sendable>(
    _ robot: String, _ question: @Sendable (Robot) async throws -> Answer
  ) async throws -> Answer {
    guard let endpoint = self.endpoints[robot], self.unreachable[robot] == nil else {
      throw self.unknown(robot)
    }
    await self.take()
    defer { self.giveBack() }
    let transport: ZeroMQClientTransport
    do {
      transport = try RPCClient.transport(to: endpoint, service: robot, keys: self.keys)
    } catch {
      throw FleetError(.refused, "cannot be called at \(endpoint): \(error)")
    }
    return try await withGRPCClient(transport: transport) { try await question(Robot(wrapping: $0)) }
  }

  private func take() async {
    guard self.free == 0 else { return self.free -= 1 }
    // Whoever has a line has a deadline, so that each comes to its turn.
    await withCheckedContinuation { self.waiting.append($0) }
  }

  private func giveBack() {
    if let next = self.waiting.popFirst() { next.resume() } else { self.free += 1 }
  }

  private nonisolated func unknown(_ name: String) -> FleetError {
    if let why = self.unreachable[name] { return FleetError(.refused, why) }
    let known = self.names.prefix(20).joined(separator: ", ")
    return FleetError(
      .refused,
      "no address: fleet.robots in the fleet's config.json needs \(name)=tcp://HOST:PORT; it has one for "
        + (known.isEmpty ? "no robot" : known))
  }
}
