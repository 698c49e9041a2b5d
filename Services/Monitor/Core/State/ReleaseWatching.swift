import Foundation
package import Schemas
package import Statistics

/// A release that is compared with the version before it.
package struct WatchRecord: Sendable, Hashable, Codable {
  package var releaseID: String
  package var version: String
  package var baselineVersion: String
  /// Evidence at the last look, for people.
  package var evidence = 1.0
  /// When rollout ended it; nil while it goes on.
  package var endedUnixNanos: Int64?
}

extension MonitorState {
  /// Releases that may be watched at once.
  package static let maximumWatches = 1_000

  package var activeWatches: [WatchRecord] { self.watches.values.filter { $0.endedUnixNanos == nil } }

  /// Begins a watch; telling it again changes nothing. One that has ended begins anew where its release goes on, because its
  /// successor was taken back, and one that is to be compared with another version where the release before it was.
  package mutating func watch(_ request: WatchReleaseRequest, now: Int64) throws(MonitorError) {
    guard Names.isValid(request.releaseID) else {
      throw MonitorError(.invalid, "'\(request.releaseID.prefix(64))' is no release id.")
    }
    let new = WatchRecord(
      releaseID: request.releaseID, version: request.modelVersion, baselineVersion: request.baselineVersion)
    let known = self.watches[request.releaseID]
    if let known, known.endedUnixNanos == nil {
      guard known.version != new.version || known.baselineVersion != new.baselineVersion else { return }
      self.endWatch(request.releaseID, now: now)
    }
    guard self.activeWatches.count < Self.maximumWatches else {
      throw MonitorError(.busy, "\(Self.maximumWatches) releases are watched already; end some.")
    }
    if known == nil, self.watches.count >= 2 * Self.maximumWatches {
      let ended = self.watches.values.filter { $0.endedUnixNanos != nil }
      let oldest = ended.min {
        ($0.endedUnixNanos ?? 0, $0.releaseID) < ($1.endedUnixNanos ?? 0, $1.releaseID)
      }
      self.watches[oldest?.releaseID ?? ""] = nil
    }
    self.watches[request.releaseID] = new
  }

  private mutating func endWatch(_ releaseID: String, now: Int64) {
    guard var watch = self.watches[releaseID], watch.endedUnixNanos == nil else { return }
    watch.endedUnixNanos = now
    self.watches[releaseID] = watch
    self.alerts.resolve(AlertSubject(name: "SuccessRateRegression", releaseID: releaseID), now: now)
  }

  /// Ends the watches whose releases rollout does not say go on, and resolves their alerts: they are over, or its database does
  /// not know them any more.
  /// - Parameters:
  ///   - watches: those that there were when rollout was asked.
  ///   - releases: what it answered.
  package mutating func endWatches(among watches: [WatchRecord], butOf releases: [Release], now: Int64) {
    let active = Set(
      releases.filter { $0.state == .rollingOut || $0.state == .complete }.map(\.releaseID))
    for watch in watches where !active.contains(watch.releaseID) { self.endWatch(watch.releaseID, now: now) }
  }

  /// Compares a watched release with its baseline on the tasks that both tried.
  /// - Parameter cells: outcomes under the release and of the baseline version, trials with a policy only.
  package mutating func judge(
    _ releaseID: String, cells: [OutcomeCount], rule: RegressionWatch, salt: String, now: Int64
  ) {
    guard var watch = self.watches[releaseID], watch.endedUnixNanos == nil, !watch.baselineVersion.isEmpty,
      watch.baselineVersion != watch.version
    else { return }
    let (baseline, release) = Self.matched(cells, watch)
    let state = rule.state(baseline: baseline, release: release)
    watch.evidence = state.evidence
    self.watches[releaseID] = watch
    guard state.isRegression else { return }
    func percent(_ proportion: Proportion) -> String {
      "\(proportion.successes)/\(proportion.trials) (\(String(format: "%.0f", proportion.rate * 100)) %)"
    }
    self.alerts.raise(
      Alert(
        name: "SuccessRateRegression", severity: .critical, modelVersion: watch.version,
        baselineVersion: watch.baselineVersion,
        summary: "\(watch.version) succeeds in \(percent(release)), \(watch.baselineVersion) in "
          + "\(percent(baseline)) of the same tasks.",
        remedy: "A guarded release is taken back by itself; look at its trials before it is released again.",
        labels: [
          "release_id": releaseID, "release_successes": "\(release.successes)",
          "release_trials": "\(release.trials)", "baseline_successes": "\(baseline.successes)",
          "baseline_trials": "\(baseline.trials)", "e_value": String(format: "%.4g", state.evidence),
          "threshold": String(format: "%.4f", state.threshold), "alpha": "\(rule.alpha)",
        ],
        releaseID: releaseID),
      salt: salt, now: now)
  }

  /// Outcomes on the tasks that both tried, the baseline's weighted by how often the release tried each.
  static func matched(
    _ cells: [OutcomeCount], _ watch: WatchRecord
  ) -> (baseline: Proportion, release: Proportion) {
    var baseline: [String: Proportion] = [:]
    var release: [String: Proportion] = [:]
    for cell in cells {
      // Bounded, so that no sum of them overflows.
      let trials = Int(min(cell.trials, 1 << 40))
      let count = Proportion(successes: min(trials, Int(clamping: cell.successes)), trials: trials)
      let nothing = Proportion(successes: 0, trials: 0)
      if cell.releaseID == watch.releaseID, cell.modelVersion == watch.version {
        release[cell.task, default: nothing] = release[cell.task, default: nothing] + count
      } else if cell.modelVersion == watch.baselineVersion {
        baseline[cell.task, default: nothing] = baseline[cell.task, default: nothing] + count
      }
    }
    return Proportion.matched(baseline: baseline, release: release)
  }
}
