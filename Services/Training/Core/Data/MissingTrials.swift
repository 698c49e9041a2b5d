/// Decides whether a job may learn without trials of its snapshot that ingest cannot give any more.
enum MissingTrials {
  /// Trials of a snapshot that may be missing: `percent` of them, rounded down, but one in any case; none with 0 percent.
  static func allowed(of trials: Int, percent: Int) -> Int {
    percent == 0 ? 0 : max(1, trials * percent / 100)
  }

  /// - Parameters:
  ///   - missing: names of the missing ones, robot and trial id.
  ///   - trials: of the snapshot in all.
  /// - Throws: ``TrainingError`` `.noData` where more are missing than may be.
  static func check(_ missing: [String], of trials: Int, snapshot: String, percent: Int) throws {
    guard missing.count > Self.allowed(of: trials, percent: percent) else { return }
    throw TrainingError(
      .noData,
      "Ingest has lost \(missing.count) of the \(trials) trials of snapshot \(snapshot), among them "
        + "\(missing.prefix(5).joined(separator: ", ")); training.missing-percent allows \(percent) %. Restore the trial "
        + "log from a copy, or start a new job: it learns from the trials that are left.")
  }
}
