import Bus
import GRPCCore
import Logging
import Schemas

/// Uses the first link in the order of preference over which the fleet answers, and changes when that changes.
struct LinkChooser: Sendable {
  let links: [Link]
  let interval: Duration
  let logger: Logger
  /// Whether the fleet answers over a link.
  let probe: @Sendable (Link) async -> Bool
  /// Works over a link until cancelled.
  let work: @Sendable (Link) async throws -> Void

  /// Works until cancelled. With a single link there is no choice, and it is not probed.
  func run() async throws {
    var current = self.links.count == 1 ? 0 : await self.firstReachable() ?? 0
    var backoff = Backoff(first: .milliseconds(500), longest: .seconds(30))
    while !Task.isCancelled {
      let link = self.links[current]
      self.logger.info("link in use", metadata: ["link.name": "\(link.name)"])
      do {
        current = try await self.use(current)
        backoff.reset()
      } catch {
        guard !Task.isCancelled else { return }
        // A robot outlives its network, whatever the network does.
        self.logger.error("link failed", metadata: ["link.name": "\(link.name)", "error": "\(error)"])
        try await Task.sleep(for: backoff.next())
        current = await self.firstReachable() ?? current
      }
    }
  }

  /// Works over a link until another is to be used.
  /// - Returns: that other link.
  private func use(_ current: Int) async throws -> Int {
    try await withThrowingTaskGroup(of: Int.self) { group in
      group.addTask {
        try await self.work(self.links[current])
        return current
      }
      if self.links.count > 1 { group.addTask { await self.waitForOther(than: current) } }
      defer { group.cancelAll() }
      return try await group.next() ?? current
    }
  }

  /// The best reachable link that is not `current`: a better one, or any while the current one does not answer.
  private func waitForOther(than current: Int) async -> Int {
    while !Task.isCancelled {
      try? await Task.sleep(for: self.interval)
      if let best = await self.firstReachable(), best != current { return best }
    }
    return current
  }

  private func firstReachable() async -> Int? {
    for (index, link) in self.links.enumerated() where await self.probe(link) { return index }
    return nil
  }
}
