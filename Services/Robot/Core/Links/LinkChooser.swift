import Bus
import GRPCCore
import Logging
import Schemas
import Storage

/// Uses the first link in the order of preference over which the fleet answers, and changes when that changes.
struct LinkChooser: Sendable {
  let links: [Link]
  let interval: Duration
  let runtime: Runtime
  let logger: Logger
  /// Whether the fleet answers over a link.
  let probe: @Sendable (Link) async -> Bool
  /// Works over a link until cancelled; returns where there is nothing to do over it.
  let work: @Sendable (Link) async throws -> Void

  /// Works until cancelled, or until there is nothing to do over the only link. With a single link there is no choice, and
  /// it is not probed.
  func run() async throws {
    var current = self.links.count == 1 ? 0 : await self.firstReachable() ?? 0
    var backoff = Backoff(first: .milliseconds(500), longest: .seconds(30), runtime: self.runtime)
    while !Task.isCancelled {
      let link = self.links[current]
      self.logger.info("link in use", metadata: ["link.name": "\(link.name)"])
      do {
        guard let next = try await self.use(current) else { return }
        current = next
        backoff.reset()
      } catch {
        guard !Task.isCancelled else { return }
        // A robot outlives its network, whatever the network does.
        self.logger.error("link failed", metadata: ["link.name": "\(link.name)", "error": "\(error)"])
        try await self.runtime.sleep(for: backoff.next())
        current = await self.firstReachable() ?? current
      }
    }
  }

  /// Works over a link until another is to be used.
  /// - Returns: that other link; nil where there is none, and nothing to do over this one.
  private func use(_ current: Int) async throws -> Int? {
    try await withThrowingTaskGroup(of: Int?.self) { group in
      group.addTask {
        try await self.work(self.links[current])
        return nil
      }
      if self.links.count > 1 { group.addTask { await self.waitForOther(than: current) } }
      defer { group.cancelAll() }
      while let next = try await group.next() { if let next { return next } }
      return nil
    }
  }

  /// The best reachable link that is not `current`: a better one, or any while the current one does not answer.
  private func waitForOther(than current: Int) async -> Int {
    while !Task.isCancelled {
      try? await self.runtime.sleep(for: self.interval)
      if let best = await self.firstReachable(), best != current { return best }
    }
    return current
  }

  private func firstReachable() async -> Int? {
    for (index, link) in self.links.enumerated() where await self.probe(link) { return index }
    return nil
  }
}
