import Schemas
import Storage

/// What was found damaged in the log: a small durable file each, so that it is still known when the log has been mended.
///
/// A record that cannot be read costs what it said and nothing else: it is passed over, and told.
final class DamageBook {
  /// Trials that are named in one record.
  static let maximumNames = 1_000
  /// Records that are kept in memory.
  static let maximumRecent = 100
  private static let suffix = ".damage"
  private static let maximumBytes = 1 << 20

  private struct Place: Hashable {
    var file: String
    var offset: UInt64
    var fingerprint: UInt32
  }

  private let folder: String
  private let disk: any Disk
  /// Where the damage ends that was noted there; what reaches farther is other damage.
  private var places: [Place: Int] = [:]
  /// The latest, oldest first.
  private(set) var recent: [LogDamage] = []
  /// Files that are to be records and cannot be read as such, and why; the first of them.
  private(set) var unreadable: [(path: String, error: any Error)] = []

  /// How many there are.
  private(set) var count = 0

  /// - Parameter folder: made where it is missing.
  init(folder: String, disk: any Disk) throws(TrialsError) {
    self.folder = folder
    self.disk = disk
    let names = try TrialsError.disk { () throws(StorageError) in
      try disk.makeFolder(folder)
      try DurableFile.removeLeftovers(in: folder, on: disk)
      // Where that failed for the last process, its record stands in the machine's memory only, and is not written again.
      try disk.synchronizeFolder(folder)
      return try disk.names(in: folder)
    }
    for name in names.filter({ $0.hasSuffix(Self.suffix) }).sorted() {
      let path = "\(folder)/\(name)"
      do {
        let bytes = try DurableFile.read(path, limit: Self.maximumBytes, on: disk)
        self.keep(try LogDamage(serializedBytes: bytes))
      } catch {
        if self.unreadable.count < Self.maximumRecent { self.unreadable.append((path, error)) }
      }
    }
  }

  /// Notes damage; once for each place and what stands there, and once more where a trial behind it is damaged too.
  /// - Returns: nil where it is known already.
  /// - Throws: ``TrialsError`` where it cannot be made durable; it is then not noted.
  func note(
    _ found: FoundDamage, lost: [(name: TrialName, position: LogPosition)], nowUnixNanos: Int64
  ) throws(TrialsError) -> LogDamage? {
    let (file, bytes) = (found.file, found.bytes)
    let offset = UInt64(max(0, bytes.lowerBound))
    let place = Place(file: file, offset: offset, fingerprint: found.fingerprint)
    if let end = self.places[place], !TrialLog.mayHoldTrial(min(end, bytes.upperBound)..<bytes.upperBound) {
      return nil
    }
    let names = lost.isEmpty ? found.claimed.map { [$0] } ?? [] : lost.map(\.name)
    let mayHoldMore =
      names.isEmpty ? TrialLog.mayHoldTrial(bytes) : found.mayHoldMore(than: lost.map(\.position))
    let unnamed = mayHoldMore ? 1 : 0
    let damage = LogDamage(
      file: file, offset: offset, bytes: UInt64(bytes.count),
      lost: Array(names.prefix(Self.maximumNames)),
      lostUnnamed: UInt64(max(0, names.count - Self.maximumNames) + unnamed), detectedUnixNanos: nowUnixNanos,
      fingerprint: found.fingerprint, mayBeTorn: found.mayBeTorn)
    let path =
      "\(self.folder)/\(Self.digits(nowUnixNanos))-\(file)-\(offset)-\(bytes.count)-\(found.fingerprint)\(Self.suffix)"
    try TrialsError.disk { () throws(StorageError) in
      try DurableFile.write(damage.serializedBytes(), to: path, on: self.disk)
    }
    self.keep(damage)
    return damage
  }

  private func keep(_ damage: LogDamage) {
    let place = Place(file: damage.file, offset: damage.offset, fingerprint: damage.fingerprint)
    let end = Int(clamping: damage.offset.addingReportingOverflow(damage.bytes).partialValue)
    self.places[place] = max(self.places[place] ?? 0, end)
    self.count += 1
    self.recent.append(damage)
    if self.recent.count > Self.maximumRecent { self.recent.removeFirst() }
  }

  /// Names sort by time.
  private static func digits(_ nanos: Int64) -> String {
    let text = String(max(0, nanos))
    return String(repeating: "0", count: max(0, 20 - text.count)) + text
  }
}
