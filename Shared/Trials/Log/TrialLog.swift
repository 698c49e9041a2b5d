import Schemas
public import Storage

/// The trial log: append-only MCAP files, one chunk a trial, synced once for many.
///
/// A chunk carries its own CRC, so after a crash the log is whole up to the last good chunk. Sealed files end with an index and
/// a footer and never change again. A file in which something is damaged is kept as it is and never appended to again: what is
/// good in it stays readable where it lies.
///
/// Not thread-safe: one owner calls it, off the cooperative pool, because syncing a disk takes long.
public final class TrialLog {
  /// Content of a chunk above which it is none: larger than any trial that ingest takes, in bytes.
  static let maximumChunk = 512 << 20
  static let channel: UInt16 = 1
  static let schema: UInt16 = 1
  static let topic = "trials"

  public struct Configuration: Sendable {
    /// Size at which a file is sealed and the next one begun, in bytes.
    public var maximumFileBytes: Int
    public init(maximumFileBytes: Int = 256 << 20) { self.maximumFileBytes = maximumFileBytes }
  }

  /// A log file as it stands.
  struct FileState: Hashable, Sendable {
    var name: String
    var bytes: Int
    /// Trials in it that are not known to be damaged.
    var chunks: Int
  }

  private struct Active {
    var name: LogFileName
    var file: LogFile
    var chunks: [LogChunk] = []
    /// Offsets of those that hold no trial any more.
    var lost: Set<Int> = []
  }

  private let folder: String
  private let configuration: Configuration
  private let disk: any Disk
  /// Nil while the last file is sealed and the next could not be begun.
  private var active: Active?
  private var last: LogFileName?
  /// Why the last try to go on to the next file failed; nil once it worked. Trials go on into the old one meanwhile.
  private(set) var rotationFailure: TrialsError?
  /// What the last file held at the start, for whoever would read it again.
  private(set) var recovered: (file: String, contents: LogContents)?
  /// Files that have changed since whoever reads this last let go of it, by name.
  var changes: [String: FileState] = [:]
  /// Bytes that were torn at the end of the last file and belonged to no acknowledged trial.
  private(set) var tornBytes = 0

  /// Opens the log and repairs its last file.
  /// - Parameters:
  ///   - folder: made where it is missing.
  ///   - acknowledgedEnd: end of the last trial that is known to have been stored in a file, as an offset; 0 where none is.
  ///   - damaged: told of damage in the last file before anything is changed there.
  /// - Throws: ``TrialsError``, and what `damaged` throws.
  init(
    folder: String, configuration: Configuration = .init(), disk: any Disk = SystemDisk(),
    acknowledgedEnd: (String) throws -> Int = { _ in 0 },
    damaged: (FoundDamage) throws -> Void = { _ in }
  ) throws {
    self.folder = folder
    self.configuration = configuration
    self.disk = disk
    try TrialsError.disk { () throws(StorageError) in try disk.makeFolder(folder) }
    self.last = try Self.names(in: folder, on: disk).last
    if let last = self.last {
      try self.repair(last, acknowledgedEnd: try acknowledgedEnd(last.text), damaged: damaged)
    }
    if self.active == nil { self.active = try self.begin() }
  }

  /// Names of all log files, oldest first.
  public static func fileNames(in folder: String, on disk: any Disk = SystemDisk()) throws(TrialsError)
    -> [String]
  {
    try Self.names(in: folder, on: disk).map(\.text)
  }

  private static func names(in folder: String, on disk: any Disk) throws(TrialsError) -> [LogFileName] {
    try TrialsError.disk { () throws(StorageError) in try disk.names(in: folder) }
      .compactMap(LogFileName.init).sorted()
  }

  // MARK: Repair

  private func repair(
    _ name: LogFileName, acknowledgedEnd: Int, damaged: (FoundDamage) throws -> Void
  ) throws {
    let file = try LogFile(self.path(name.text), .readWrite, on: self.disk)
    // A killed process may have left the file's name in the machine's memory only.
    try TrialsError.disk { () throws(StorageError) in try self.disk.synchronizeFolder(self.folder) }
    let repair = LogRepair(
      name: name.text, file: file, head: Self.start, acknowledgedEnd: acknowledgedEnd)
    switch try repair.run(damaged) {
    case .sealed: return
    case .empty: try self.remove(name)
    case .damaged(let contents):
      self.recovered = (name.text, contents)
      // Sealing spares the next start the search; it is no loss where there is no room for it.
      try? self.seal(Active(name: name, file: file, chunks: contents.entries.map(\.chunk)))
    case .whole(let contents, let torn):
      self.recovered = (name.text, contents)
      self.tornBytes = torn
      self.active = Active(name: name, file: file, chunks: contents.entries.map(\.chunk))
    }
  }

  private func remove(_ name: LogFileName) throws(TrialsError) {
    let path = self.path(name.text)
    try TrialsError.disk { () throws(StorageError) in try self.disk.remove(path) }
    self.last = try Self.names(in: self.folder, on: self.disk).last
  }

  // MARK: Writing

  /// Appends trials and returns once all of them are on the disk: one sync for all.
  /// - Parameter storedUnixNanos: when they were stored; stands in the log as the log time of each trial's last event.
  /// - Returns: where each lies.
  /// - Throws: ``TrialsError``; then none of them is in the log.
  func append(_ trials: [TrialRecord], storedUnixNanos: Int64) throws(TrialsError) -> [LogPosition] {
    if self.active == nil { self.active = try self.begin() }
    guard var active = self.active else { return [] }
    let before = active.file.size
    var positions: [LogPosition] = []
    do {
      for trial in trials {
        let chunk = try Self.write(trial, storedUnixNanos, to: active.file)
        active.chunks.append(chunk)
        positions.append(LogPosition(file: active.name.text, offset: chunk.offset, length: chunk.length))
      }
      try active.file.synchronize()
    } catch {
      try? active.file.cut(to: before)
      throw error
    }
    self.active = active
    self.note(active)
    if active.file.size >= self.configuration.maximumFileBytes {
      // These trials are safe already: that the file cannot be sealed now is no failure of theirs.
      do { try self.seal() } catch { self.rotationFailure = error }
    }
    return positions
  }

  private static func write(_ trial: TrialRecord, _ storedUnixNanos: Int64, to file: LogFile)
    throws(TrialsError) -> LogChunk
  {
    let stored = UInt64(max(0, storedUnixNanos))
    let begin = UInt64(max(0, trial.header?.startedUnixNanos ?? 0))
    var records: [UInt8] = []
    var index: [(time: UInt64, offset: UInt64)] = []
    for (number, event) in trial.events.enumerated() {
      let made = Self.time(of: event, begin: begin)
      // Recorded when it was stored: that is said once, by the last event, so that a viewer still sees the robot's times.
      let logged = number == trial.events.count - 1 ? stored : made
      index.append((logged, UInt64(records.count)))
      records += MCAP.message(
        channel: Self.channel, sequence: event.number, logTime: logged, publishTime: made,
        data: event.serializedBytes())
    }
    let (start, end) = (index.map(\.time).min() ?? 0, index.map(\.time).max() ?? 0)
    let record = MCAP.chunk(start: start, end: end, records: records)
    guard record.count - MCAP.recordOverhead <= Self.maximumChunk, !trial.events.isEmpty else {
      throw TrialsError(
        .invalid, "A trial of \(record.count) bytes cannot be stored: 1 to \(Self.maximumChunk) can.")
    }
    let messageIndex = MCAP.messageIndex(channel: Self.channel, entries: index)
    let offset = file.size
    try file.append(record + messageIndex)
    return LogChunk(
      start: start, end: end, offset: offset, length: record.count, indexLength: messageIndex.count,
      dataLength: records.count, messages: trial.events.count)
  }

  /// When an event was made by the robot's clock, Unix nanoseconds.
  private static func time(of event: TrialEvent, begin: UInt64) -> UInt64 {
    switch event.event {
    case .steps(let run):
      let (sum, overflow) = begin.addingReportingOverflow(UInt64(max(0, run.steps.first?.elapsedNanos ?? 0)))
      return overflow ? .max : sum
    case .end(let end): return max(begin, UInt64(max(0, end.endedUnixNanos)))
    default: return begin
    }
  }

  // MARK: Rotation

  /// Ends the current file with index and footer, and begins the next.
  /// - Throws: ``TrialsError``; the log then goes on in the old file, or in the next once it can be begun.
  func seal() throws(TrialsError) {
    guard let active = self.active else { return }
    // Where no name is left for another file, trials go on into this one.
    _ = try self.nextName()
    try self.seal(active)
    self.active = nil
    self.active = try self.begin()
    self.rotationFailure = nil
  }

  private func seal(_ active: Active) throws(TrialsError) {
    let dataEnd = active.file.size
    do {
      try active.file.append(LogSummary.tail(active.chunks, at: dataEnd, schema: Self.definitions))
      try active.file.synchronize()
    } catch {
      try? active.file.cut(to: dataEnd)
      throw error
    }
    self.note(active)
  }

  private func note(_ active: Active) {
    let name = active.name.text
    self.changes[name] = FileState(
      name: name, bytes: active.file.size, chunks: active.chunks.count - active.lost.count)
  }

  /// No longer counts a chunk as a trial: it is damaged. It stays where it lies.
  func discount(_ position: LogPosition) {
    if self.active?.name.text == position.file {
      self.active?.lost.insert(position.offset)
      if let active = self.active { self.note(active) }
    } else {
      self.changes[position.file]?.chunks -= 1
    }
  }

  /// The next name that nothing has yet. Somebody may have put files back while this ran: they stay as they are.
  private func nextName() throws(TrialsError) -> LogFileName {
    var name = try self.last?.next() ?? LogFileName(number: 1)
    while true {
      let path = self.path(name.text)
      guard try TrialsError.disk({ () throws(StorageError) in try self.disk.size(of: path) }) != nil else {
        return name
      }
      name = try name.next()
    }
  }

  /// Makes the next file. Nothing is left of one that could not be made whole.
  private func begin() throws(TrialsError) -> Active {
    let name = try self.nextName()
    let path = self.path(name.text)
    let file = try LogFile(path, .create, on: self.disk)
    do {
      try file.append(Self.start)
      try file.synchronize()
      try TrialsError.disk { () throws(StorageError) in try self.disk.synchronizeFolder(self.folder) }
    } catch {
      do {
        try TrialsError.disk { () throws(StorageError) in try self.disk.remove(path) }
      } catch {
        // Its name is taken for good; the next try takes another.
        self.last = name
      }
      throw error
    }
    self.last = name
    let active = Active(name: name, file: file)
    self.note(active)
    return active
  }

  /// Schema and channel: in front of the data and again in the summary.
  private static let definitions: [UInt8] = {
    guard let descriptors = SchemaRegistry.fileDescriptorSet(for: TrialEvent.protoMessageName) else {
      preconditionFailure("\(TrialEvent.protoMessageName) is a generated type and has a descriptor.")
    }
    return MCAP.schema(
      id: TrialLog.schema, name: TrialEvent.protoMessageName, encoding: "protobuf", data: descriptors)
      + MCAP.channel(
        id: TrialLog.channel, schema: TrialLog.schema, topic: TrialLog.topic, encoding: "protobuf")
  }()

  /// How every file begins.
  private static let start = MCAP.magic + MCAP.header(profile: "", library: "fleetloop") + definitions

  // MARK: State

  var currentFile: String { (self.active?.name ?? self.last)?.text ?? "" }

  /// Bytes of every file by name.
  func sizes() throws(TrialsError) -> [String: Int] {
    try TrialsError.disk { () throws(StorageError) in
      var sizes: [String: Int] = [:]
      for name in try self.disk.names(in: self.folder) where LogFileName(name) != nil {
        sizes[name] = try self.disk.size(of: self.path(name))
      }
      return sizes
    }
  }

  /// What a file holds, read and checked to the last byte.
  func contents(of file: String) throws(TrialsError) -> LogContents {
    if let recovered, recovered.file == file { return recovered.contents }
    let end = self.active?.name.text == file ? self.active?.file.size : nil
    return try LogContents.read(try LogFile(self.path(file), .read, on: self.disk), until: end)
  }

  /// The trial at a position; nil where none stands there.
  func trial(at position: LogPosition) throws(TrialsError) -> TrialRecord? {
    let file = try LogFile(self.path(position.file), .read, on: self.disk)
    guard let bytes = try file.readUnlessBad(at: position.offset, count: position.length) else { return nil }
    return try? ChunkRecord(bytes, at: position.offset)?.trial()
  }

  /// Damage in a file, as it stands there now.
  func damage(in file: String, at bytes: Range<Int>) throws(TrialsError) -> FoundDamage {
    try FoundDamage(bytes, in: try LogFile(self.path(file), .read, on: self.disk), named: file)
  }

  /// Whether damaged bytes are more than a message index or the beginning of a file: only then a trial can have been there.
  static func mayHoldTrial(_ bytes: Range<Int>) -> Bool {
    bytes.count - (bytes.lowerBound == 0 ? self.start.count : 0) > 2 * ChunkRecord.headBytes
  }

  /// Lets go of what the last file held at the start.
  func forgetRecovered() { self.recovered = nil }

  private func path(_ name: String) -> String { "\(self.folder)/\(name)" }
}
