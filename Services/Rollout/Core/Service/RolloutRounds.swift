package import Logging
import Schemas
import ServiceKit
import ServiceLifecycle
package import Storage

/// What rollout does again and again: tell robots, judge experiments, listen to the monitor.
///
/// Each round asks again for what may have been lost: a robot that missed a publication, an alert that came while rollout was
/// down, a monitor that restarted, with its state or without.
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
    /// The monitor is told again what to watch once in so many looks.
    package var looksToAllWatches = 10
    package init() {}
  }

  private let rollout: Rollout
  private let peers: RolloutPeers
  private let intervals: Intervals
  private let runtime: Runtime
  private let logger: Logger

  package init(
    rollout: Rollout, peers: RolloutPeers, intervals: Intervals = .init(), runtime: Runtime = .system,
    logger: Logger
  ) {
    self.rollout = rollout
    self.peers = peers
    self.intervals = intervals
    self.runtime = runtime
    self.logger = logger
  }

  package func run() async throws {
    await cancelWhenGracefulShutdown { await self.work() }
    do { try await self.rollout.storeTimes() } catch {
      self.logger.error("times of reports not stored", metadata: ["error": "\(error)"])
    }
  }

  /// Works until cancelled.
  package func work() async {
    await withDiscardingTaskGroup { group in
      group.addTask { await self.publishMoves() }
      group.addTask { await self.publishAgain() }
      group.addTask { await self.again(every: self.intervals.experiments) { _ in try await self.judge() } }
      group.addTask { await self.tellWatches() }
      group.addTask { await self.again(every: self.intervals.alerts) { _ in try await self.hearAlerts() } }
    }
  }

  /// Does one thing over and over; only the first failure of a row is told.
  private func again(every interval: Duration, _ body: (_ round: Int) async throws -> Void) async {
    var (isFailing, round) = (false, 0)
    repeat {
      round += 1
      do {
        try await body(round)
        if isFailing { self.logger.notice("peer answers again") }
        isFailing = false
      } catch {
        if !isFailing, !Task.isCancelled {
          self.logger.warning("round failed; trying again", metadata: ["error": "\(error)"])
        }
        isFailing = true
      }
    } while (try? await self.runtime.sleep(for: interval)) != nil
  }

  private func publishMoves() async {
    for await desired in self.rollout.moved { await self.peers.publish(desired) }
  }

  private func publishAgain() async {
    var round = 0
    while (try? await self.runtime.sleep(for: self.intervals.publish)) != nil {
      round += 1
      do { try await self.rollout.tick() } catch {
        self.logger.error("state not stored", metadata: ["error": "\(error)"])
      }
      let state = await self.rollout.snapshot
      let robots =
        round.isMultiple(of: self.intervals.roundsToAll)
        ? state.robots.values.filter { $0.generation > 0 }.map(\.name).sorted() : state.unsettled
      for robot in robots { await self.peers.publish(state.desired(robot)) }
    }
  }

  private func judge() async throws {
    for experiment in await self.rollout.runningExperiments {
      let counts = try await self.peers.summarize(Rollout.query(experiment)).counts
      try await self.rollout.judge(experiment.id, counts: counts, endNow: false)
    }
  }

  /// Tells the monitor what to compare. What goes on no more it finds missing in the list of releases.
  private func tellWatches() async {
    var told: Set<WatchReleaseRequest> = []
    await self.again(every: self.intervals.alerts) { round in
      let watches = await self.rollout.watches
      told = round.isMultiple(of: self.intervals.looksToAllWatches) ? [] : told.intersection(watches)
      var refusal: (any Error)?
      // One that is refused holds up no other.
      for watch in watches where !told.contains(watch) {
        do {
          try await self.peers.watch(watch)
          told.insert(watch)
        } catch { refusal = error }
      }
      if let refusal { throw refusal }
    }
  }

  private func hearAlerts() async throws {
    guard await !self.rollout.watches.isEmpty else { return }
    for alert in try await self.peers.alerts() { try await self.rollout.hear(alert) }
  }
}
