package import Logging
import Schemas
import ServiceKit
import ServiceLifecycle

/// What the monitor does again and again: tell the bus, let time pass, catch up with ingest, compare releases.
package struct MonitorRounds: Service {
  package struct Intervals: Sendable {
    /// Between two looks at missing heartbeats, and two repetitions of directives.
    package var tick: Duration = .seconds(1)
    /// Between two looks at watched releases.
    package var releases: Duration = .seconds(1)
    /// Between two catch-ups with ingest's trials.
    package var catchUp: Duration = .seconds(5)
    /// Between two refreshes of what the status page shows.
    package var page: Duration = .seconds(2)
    /// Between two looks at the other services' metrics; Prometheus asks every 15 s or so.
    package var metrics: Duration = .seconds(5)
    package init() {}
  }

  /// Trials are stored and told at slightly different times; those at the edge are looked at twice and counted once.
  static let catchUpMarginNanos: Int64 = 60_000_000_000
  /// How far a monitor without a memory looks back.
  static let firstLookNanos: Int64 = 24 * 3_600_000_000_000

  private let monitor: Monitor
  private let peers: MonitorPeers
  private let intervals: Intervals
  private let logger: Logger

  package init(monitor: Monitor, peers: MonitorPeers, intervals: Intervals = .init(), logger: Logger) {
    self.monitor = monitor
    self.peers = peers
    self.intervals = intervals
    self.logger = logger
  }

  package func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        group.addTask { await self.tellChanges() }
        group.addTask { await repeatedly(every: self.intervals.tick, logger: self.logger, self.tick) }
        group.addTask { await repeatedly(every: self.intervals.catchUp, logger: self.logger, self.catchUp) }
        group.addTask {
          await repeatedly(every: self.intervals.releases, logger: self.logger, self.compareReleases)
        }
        group.addTask {
          await repeatedly(every: self.intervals.page, logger: self.logger, self.refreshCounts)
        }
        group.addTask {
          await repeatedly(every: self.intervals.page, logger: self.logger, self.refreshRollout)
        }
        group.addTask {
          await repeatedly(every: self.intervals.metrics, logger: self.logger, self.refreshMetrics)
        }
      }
    }
    await self.monitor.stopAllWatching()
  }

  private func tellChanges() async {
    for await change in self.monitor.changes {
      switch change {
      case .alert(let alert): await self.peers.publishAlert(alert)
      case .directive(let directive): await self.peers.publishDirective(directive)
      }
    }
  }

  private func tick() async throws {
    try await self.monitor.tick()
    for robot in await self.monitor.snapshot.robots.values where robot.healthGeneration > 0 {
      await self.peers.publishDirective(robot.directive)
    }
  }

  /// Counts what was stored while nobody listened.
  private func catchUp() async throws {
    let cursor = await self.monitor.snapshot.cursorUnixNanos
    let now = await self.monitor.unixNanos
    let from = max(0, cursor == 0 ? now - Self.firstLookNanos : cursor - Self.catchUpMarginNanos)
    let query = TrialQuery(storedFromUnixNanos: from, includeQuarantined: true)
    var token = ""
    repeat {
      let page = try await self.peers.listTrials(
        ListTrialsRequest(query: query, pageSize: 1_000, pageToken: token))
      try await self.monitor.hear(page.trials)
      token = page.nextPageToken
    } while !token.isEmpty && !Task.isCancelled
  }

  private func compareReleases() async throws {
    for watch in await self.monitor.snapshot.watches.values {
      var cells = try await self.peers.summarize(
        TrialQuery(modes: [.policy, .labelledPolicy], releaseIDs: [watch.releaseID]))
      // Without a trial there is nothing to compare yet.
      guard !cells.isEmpty else { continue }
      cells += try await self.peers.summarize(
        TrialQuery(modelVersions: [watch.baselineVersion], modes: [.policy, .labelledPolicy])
      ).filter { $0.releaseID != watch.releaseID }
      try await self.monitor.judge(watch.releaseID, cells: cells)
    }
  }

  private func refreshCounts() async throws {
    await self.monitor.remember(counts: try await self.peers.summarize(TrialQuery(includeQuarantined: true)))
  }

  private func refreshMetrics() async {
    await self.monitor.remember(metrics: await self.peers.gatherMetrics())
  }

  private func refreshRollout() async throws {
    await self.monitor.remember(rollout: try await self.peers.describeRollout())
  }
}
