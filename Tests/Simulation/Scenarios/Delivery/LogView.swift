import Schemas
import SimulationKit

/// One trial of one robot.
struct TrialKey: Hashable, Comparable, CustomStringConvertible {
  var robot: String
  var trialID: String

  var description: String { "\(self.robot)/\(self.trialID)" }

  static func < (one: Self, other: Self) -> Bool {
    (one.robot, one.trialID) < (other.robot, other.trialID)
  }
}

/// What stands in ingest's log, and what ingest says that it lost there.
final class LogView {
  /// A trial in the log, with the very bytes that its robot wrote.
  struct Copy: Hashable {
    var file: String
    var range: Range<Int>
    /// Whether the disk has harmed it since.
    var isHarmed: Bool
  }

  private struct Version: Hashable {
    var stamp: UInt64
    var isDurable: Bool
  }

  private let platter: Platter
  private let folder: String
  private var messages: [TrialKey: LogReading.Messages] = [:]
  private var keys: [LogReading.Messages: TrialKey] = [:]
  /// What files hold, as long as they are as they were.
  private var known: [Version: [(TrialKey, Copy)]] = [:]

  /// - Parameter folder: ingest's: the log is in `log`, damage is noted in `damage`.
  init(_ platter: Platter, folder: String) {
    self.platter = platter
    self.folder = folder
  }

  /// Tells what a robot wrote of a trial.
  func expect(_ key: TrialKey, _ messages: LogReading.Messages) {
    self.messages[key] = messages
    self.keys[messages] = key
  }

  func messages(of key: TrialKey) -> LogReading.Messages? { self.messages[key] }

  /// Every copy of every trial.
  /// - Parameter durably: after a power cut that leaves nothing but what is certain; else as processes see it.
  func copies(durably: Bool) -> [TrialKey: [Copy]] {
    var copies: [TrialKey: [Copy]] = [:]
    var known: [Version: [(TrialKey, Copy)]] = [:]
    let folder = "\(self.folder)/log"
    for file in self.platter.files(below: folder, durably: durably) {
      let name = String(file.path.dropFirst(folder.count + 1))
      guard LogReading.isLogFile(name) else { continue }
      let version = Version(stamp: file.stamp, isDurable: durably)
      let found = self.known[version] ?? self.copies(in: file, named: name)
      known[version] = found
      for (key, copy) in found { copies[key, default: []].append(copy) }
    }
    self.known = self.known.filter { $0.key.isDurable != durably }.merging(known) { _, new in new }
    return copies
  }

  private func copies(in file: Platter.File, named name: String) -> [(TrialKey, Copy)] {
    LogReading.chunks(of: file.bytes).compactMap { chunk in
      self.keys[chunk.messages].map {
        ($0, Copy(file: name, range: chunk.range, isHarmed: chunk.isHarmed(by: file.damaged)))
      }
    }
  }

  /// Whether ingest has noted for good that a trial is damaged: by its name, or by a place where it stood.
  func isNamed(_ key: TrialKey, places: Set<Copy>) -> Bool {
    self.platter.files(below: "\(self.folder)/damage", durably: true).contains { file in
      guard let damage = try? LogDamage(serializedBytes: file.bytes) else { return false }
      if damage.lost.contains(where: { $0.robot == key.robot && $0.trialID == key.trialID }) { return true }
      let range = Int(damage.offset)..<Int(damage.offset + damage.bytes)
      return damage.lostUnnamed > 0
        && places.contains { $0.file == damage.file && $0.range.overlaps(range) }
    }
  }
}
