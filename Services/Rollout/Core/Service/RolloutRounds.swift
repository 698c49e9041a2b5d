package import Logging
import Schemas
import ServiceKit
import ServiceLifecycle

/// What rollout does again and again: tell robots, judge experiments, listen to the monitor.
///
/// Each round asks again for what may have been lost: a robot that missed a publication, an alert that came while rollout was
/// down, a monitor that restarted.
package struct RolloutRounds: Service {
  package struct Intervals: Sendable {
    /// Between two publications for a robot that has not reported yet.
    package var publish: Duration = .seconds(1)
    /// Publications to all robots come once in so many rounds.
    package var roundsToAll = 10
    /// Between two looks at experiments.
    package var experiments: Duration = .seconds(1)
    /// Between two looks at the monitor's alerts.
    package var alerts: Duration = .seconds(2)
    package init() {}
  }

  private let rollout: Rollout
  private let peers: RolloutPeers
  private let intervals: Intervals
  private let logger: Logger

  package init(rollout: Rollout, peers: RolloutPeers, intervals: Intervals = .init(), logger: Logger) {
    self.rollout = rollout
    self.peers = peers
    self.intervals = intervals
    self.logger = logger
  }

  package func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        group.addTask { await self.publishMoves() }
        group.addTask { await self.publishAgain() }
        group.addTask { await repeatedly(every: self.intervals.experiments, logger: self.logger, self.judge) }
        group.addTask {
          await repeatedly(every: self.intervals.alerts, logger: self.logger, self.followMonitor)
        }
      }
    }
  }

  private func publishMoves() async {
    for await desired in self.rollout.moved { await self.peers.publish(desired) }
  }

  private func publishAgain() async {
    var round = 0
    while (try? await Task.sleep(for: self.intervals.publish)) != nil {
      round += 1
      do { try await self.rollout.tick() } catch {
        self.logger.error("state not stored", metadata: ["error": "\(error)"])
      }
      let state = await self.rollout.snapshot
      let robots =
        round.isMultiple(of: self.intervals.roundsToAll)
        ? state.robots.values.filter { $0.generation > 0 }.map(\.name) : state.unsettled
      for robot in robots { await self.peers.publish(state.desired(robot)) }
    }
  }

  private func judge() async throws {
    for experiment in await self.rollout.runningExperiments {
      let counts = try await self.peers.summarize(Rollout.query(experiment)).counts
      try await self.rollout.judge(experiment.id, counts: counts, endNow: false)
    }
  }

  private func followMonitor() async throws {
    for watch in await self.rollout.untoldWatches {
      try await self.peers.watch(watch)
      await self.rollout.didTell(watch)
    }
    guard await self.rollout.isGuarding else { return }
    for alert in try await self.peers.alerts() { try await self.rollout.hear(alert) }
  }
}
