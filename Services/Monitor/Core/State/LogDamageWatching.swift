package import Schemas

extension MonitorState {
  static let damageAlert = "TrialLogDamaged"
  /// Lost trials that an alert names.
  private static let namedTrials = 20

  /// Raises an alert for each damaged place of the trial log.
  ///
  /// It stays open until an operator acknowledges it: what is lost does not come back by itself. Then the next tick resolves
  /// it, and the same damage raises none again.
  /// - Parameter damages: ingest's list.
  package mutating func hear(damages: [LogDamage], salt: String, now: Int64) {
    guard !damages.isEmpty else { return }
    let told = Set(self.alerts.alerts.values.filter { $0.name == Self.damageAlert }.map(\.subject))
    for damage in damages {
      let alert = Self.alert(about: damage)
      if !told.contains(alert.subject) { self.alerts.raise(alert, salt: salt, now: now) }
    }
  }

  private static func alert(about damage: LogDamage) -> Alert {
    let names = damage.lost.prefix(Self.namedTrials).map { "\($0.robot)/\($0.trialID)" }
    let unnamed = UInt64(damage.lost.count - names.count).addingReportingOverflow(damage.lostUnnamed)
    var lost = names
    if unnamed.partialValue > 0 || unnamed.overflow { lost.append("\(unnamed.partialValue) more") }
    let file = String(damage.file.prefix(200))
    let what =
      damage.mayBeTorn
      ? "Behind its last good trial: a write that a power cut tore, or an acknowledged trial. Perhaps lost: "
      : "Lost: "
    return Alert(
      name: Self.damageAlert, severity: damage.mayBeTorn ? .warning : .critical,
      summary: "\(file) is damaged in \(damage.bytes) bytes from byte \(damage.offset). \(what)"
        + (lost.isEmpty ? "nothing that is known" : lost.joined(separator: ", ")) + ".",
      remedy:
        "Look at the disk of ingest (smartctl, dmesg). The file stays where it lies; its good trials are read. "
        + "A backup of it may hold what is lost.",
      labels: [
        "file": file, "offset": "\(damage.offset)", "lost": "\(damage.lost.count)",
        "lost_unnamed": "\(damage.lostUnnamed)",
      ],
      subject: "\(file):\(damage.offset):\(String(damage.fingerprint, radix: 16))")
  }
}
