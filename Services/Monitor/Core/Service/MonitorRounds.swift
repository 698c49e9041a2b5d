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
    /// Between two questions about a service's health.
    package var probes: Duration = .seconds(2)
    package init() {}
  }

  private let monitor: Monitor
  private let peers: MonitorPeers
  private let board: StatusBoard
  private let intervals: Intervals
  private let logger: Logger

  /// - Parameter board: gets what the status page shows with each tick.
  package init(
    monitor: Monitor, peers: MonitorPeers, board: StatusBoard, intervals: Intervals = .init(), logger: Logger
  ) {
    self.monitor = monitor
    self.peers = peers
    self.board = board
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
          await repeatedly(every: self.intervals.catchUp, logger: self.logger, self.refreshDamages)
        }
        // Each by itself: one that hangs holds up no other.
        for (service, ask) in self.peers.health {
          group.addTask {
            await repeatedly(every: self.intervals.probes, logger: self.logger) {
              try await self.monitor.hear(await ask(), of: service)
            }
          }
        }
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
    var failure: MonitorError?
    do { try await self.monitor.tick() } catch { failure = error }
    // What holds is told all the same, and the page says what does not work.
    for robot in await self.monitor.snapshot.robots.values where robot.healthGeneration > 0 {
      await self.peers.publishDirective(robot.directive)
    }
    self.board.post(await self.monitor.facts)
    if let failure { throw failure }
  }

  /// Counts what was stored while nobody listened.
  private func catchUp() async throws {
    var catchUp = TrialCatchUp(from: await self.monitor.snapshot.cursor)
    let query = TrialQuery(includeQuarantined: true)
    var token = ""
    repeat {
      let page = try await self.peers.listTrials(
        ListTrialsRequest(
          query: query, pageSize: TrialCatchUp.pageSize, pageToken: token, newestFirst: true))
      catchUp.add(page.trials)
      token = page.nextPageToken
    } while !token.isEmpty && !catchUp.isComplete && !Task.isCancelled
    try await self.monitor.hear(catchUp)
  }

  private func refreshDamages() async throws {
    try await self.monitor.hear(damages: try await self.peers.listDamages())
  }

  private func compareReleases() async throws {
    for watch in await self.monitor.snapshot.activeWatches {
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
    let watches = await self.monitor.snapshot.activeWatches
    let rollout = try await self.peers.describeRollout()
    await self.monitor.remember(rollout: rollout)
    try await self.monitor.hear(rollout.releases, watching: watches)
  }
}
