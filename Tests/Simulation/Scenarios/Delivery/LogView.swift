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
  /// What the disk did not let be read at last, and how often in a row, by file.
  private var failing: [String: (bytes: Range<Int>, count: Int)] = [:]
  /// Places that it did not let be read so often that ingest may take them for damaged, by file.
  private var unreadable: [String: Set<Range<Int>>] = [:]
  /// Tries at one place, in a row.
  private static let tries = 3
  /// Bytes that are tried at once where a file is searched for what can be read.
  private static let block = 4_096

  /// - Parameter folder: ingest's: the log is in `log`, damage is noted in `damage`.
  init(_ platter: Platter, folder: String) {
    self.platter = platter
    self.folder = folder
    platter.didRead = { [unowned self] path, reading in
      guard path.hasPrefix("\(folder)/log/") else { return }
      self.read(String(path.dropFirst("\(folder)/log/".count)), reading)
    }
  }

  private func read(_ file: String, _ reading: Platter.Reading) {
    guard case .failed(let bytes?) = reading else {
      self.failing[file] = nil
      return
    }
    let before = self.failing[file].flatMap { $0.bytes == bytes ? $0.count : nil } ?? 0
    self.failing[file] = (bytes, before + 1)
    if before + 1 >= Self.tries { self.unreadable[file, default: []].insert(bytes) }
  }

  /// Whether the disk did not let a trial be read, or a part of it, for as long as it is tried.
  func wasUnreadable(_ copy: Copy) -> Bool {
    self.unreadable[copy.file]?.contains {
      $0.overlaps(copy.range) && $0.count <= max(copy.range.count, Self.block)
    } == true
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
