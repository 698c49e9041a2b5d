public import Foundation
import Schemas

/// The trial log: append-only MCAP files, one chunk a trial, synced once for many.
///
/// A chunk carries its own CRC, so after a crash the log is whole up to the last good chunk; the rest is cut off, and nothing
/// that was acknowledged is in the rest. Sealed files end with an index and a footer and never change again.
///
/// Not thread-safe: one owner calls it, off the cooperative pool, because syncing a disk takes long.
public final class TrialLog {
  /// Chunk above which a file is refused as corrupt: larger than any trial that ingest takes.
  static let maximumChunk = 512 << 20
  static let channel: UInt16 = 1
  static let schema: UInt16 = 1
  static let topic = "trials"

  public struct Configuration: Sendable {
    /// Size at which a file is sealed and the next one begun, in bytes.
    public var maximumFileBytes: Int
    public init(maximumFileBytes: Int = 256 << 20) { self.maximumFileBytes = maximumFileBytes }
  }

  private let folder: URL
  private let configuration: Configuration
  private var file: LogFile
  private var fileName: String
  private var chunks: [ChunkEntry] = []
  private var messages: UInt64 = 0
  private var readers: [String: LogFile] = [:]

  struct ChunkEntry {
    var start: UInt64
    var end: UInt64
    var offset: Int
    var length: Int
    var indexLength: Int
    var dataLength: Int
  }

  /// Opens the log and repairs its last file.
  /// - Parameter folder: made where it is missing.
  /// - Throws: ``TrialsError``.
  public init(folder: URL, configuration: Configuration = .init()) throws {
    self.folder = folder
    self.configuration = configuration
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw TrialsError(.fileSystem, "Cannot make the log folder \(folder.path).", cause: error)
    }
    let names = try Self.fileNames(in: folder)
    if let last = names.last, try !LogScanner.isSealed(folder.appending(path: last).path) {
      self.fileName = last
      self.file = try LogFile(path: folder.appending(path: last).path)
      try self.repair()
    } else {
      self.fileName = Self.name(after: names.last)
      self.file = try Self.begin(self.fileName, in: folder)
    }
  }

  /// Names of all log files, oldest first.
  public static func fileNames(in folder: URL) throws -> [String] {
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder.path)
        .filter { $0.hasPrefix("trials-") && $0.hasSuffix(".mcap") }.sorted()
    } catch {
      throw TrialsError(.fileSystem, "Cannot list the log folder \(folder.path).", cause: error)
    }
  }

  private static func name(after last: String?) -> String {
    let number = last.flatMap { Int($0.dropFirst("trials-".count).prefix(8)) } ?? 0
    return "trials-" + String(repeating: "0", count: 8 - String(number + 1).count) + "\(number + 1).mcap"
  }

  private static func begin(_ name: String, in folder: URL) throws -> LogFile {
    let file = try LogFile(path: folder.appending(path: name).path)
    if file.size > 0 { try file.truncate(to: 0) }
    guard let descriptors = SchemaRegistry.fileDescriptorSet(for: TrialEvent.protoMessageName) else {
      throw TrialsError(.invalid, "\(TrialEvent.protoMessageName) has no descriptor.")
    }
    let start =
      MCAP.magic + MCAP.header(profile: "", library: "fleetloop")
      + MCAP.schema(
        id: Self.schema, name: TrialEvent.protoMessageName, encoding: "protobuf", data: descriptors)
      + MCAP.channel(id: Self.channel, schema: Self.schema, topic: Self.topic, encoding: "protobuf")
    try file.append(start)
    try file.synchronize()
    try LogFile.synchronizeFolder(folder.path)
    return file
  }

  // MARK: Writing

  /// Appends trials and returns once all of them are on the disk: one sync for all.
  /// - Returns: where each lies.
  /// - Throws: ``TrialsError``; then none of them is in the log.
  public func append(_ trials: [TrialRecord]) throws(TrialsError) -> [LogPosition] {
    let before = (size: self.file.size, chunks: self.chunks.count, messages: self.messages)
    do throws(TrialsError) {
      var positions: [LogPosition] = []
      for trial in trials { positions.append(try self.write(trial)) }
      try self.file.synchronize()
      if self.file.size >= self.configuration.maximumFileBytes { try self.seal() }
      return positions
    } catch {
      // Rotation has not begun when writing fails, so the file is still the same one.
      try? self.file.truncate(to: before.size)
      self.chunks.removeLast(self.chunks.count - before.chunks)
      self.messages = before.messages
      throw error
    }
  }

  private func write(_ trial: TrialRecord) throws(TrialsError) -> LogPosition {
    let start = UInt64(max(0, trial.header?.startedUnixNanos ?? 0))
    let end = max(start, UInt64(max(0, trial.end?.endedUnixNanos ?? 0)))
    var records: [UInt8] = []
    var index: [(time: UInt64, offset: UInt64)] = []
    for event in trial.events {
      let time = Self.time(of: event, start: start, end: end)
      index.append((time, UInt64(records.count)))
      records += MCAP.message(
        channel: Self.channel, sequence: event.number, time: time, data: event.serializedBytes())
    }
    let chunk = MCAP.chunk(start: start, end: end, records: records)
    let messageIndex = MCAP.messageIndex(channel: Self.channel, entries: index)
    let offset = self.file.size
    try self.file.append(chunk + messageIndex)
    self.chunks.append(
      ChunkEntry(
        start: start, end: end, offset: offset, length: chunk.count, indexLength: messageIndex.count,
        dataLength: records.count))
    self.messages += UInt64(trial.events.count)
    return LogPosition(file: self.fileName, offset: offset, length: chunk.count)
  }

  private static func time(of event: TrialEvent, start: UInt64, end: UInt64) -> UInt64 {
    switch event.event {
    case .steps(let run): start &+ UInt64(max(0, run.steps.first?.elapsedNanos ?? 0))
    case .end: end
    default: start
    }
  }

  /// Ends the current file with index and footer, and begins the next.
  public func seal() throws(TrialsError) {
    let summaryStart = self.file.size + MCAP.dataEnd().count
    var tail = MCAP.dataEnd()
    guard let descriptors = SchemaRegistry.fileDescriptorSet(for: TrialEvent.protoMessageName) else { return }
    tail += MCAP.schema(
      id: Self.schema, name: TrialEvent.protoMessageName, encoding: "protobuf", data: descriptors)
    tail += MCAP.channel(id: Self.channel, schema: Self.schema, topic: Self.topic, encoding: "protobuf")
    for chunk in self.chunks { tail += MCAP.chunkIndex(chunk, channel: Self.channel) }
    tail += MCAP.statistics(chunks: self.chunks, messages: self.messages, channel: Self.channel)
    tail += MCAP.footer(summaryStart: UInt64(summaryStart), summaryOffsetStart: 0) + MCAP.magic
    try self.file.append(tail)
    try self.file.synchronize()
    self.fileName = Self.name(after: self.fileName)
    do {
      self.file = try Self.begin(self.fileName, in: self.folder)
    } catch let error as TrialsError {
      throw error
    } catch {
      throw TrialsError(.fileSystem, "Cannot begin \(self.fileName).", cause: error)
    }
    self.chunks = []
    self.messages = 0
  }

  private func repair() throws {
    let scan = try LogScanner.scan(self.file)
    if scan.goodBytes < MCAP.magic.count + MCAP.recordOverhead {
      self.file = try Self.begin(self.fileName, in: self.folder)
      return
    }
    if scan.goodBytes < self.file.size {
      try self.file.truncate(to: scan.goodBytes)
      try self.file.synchronize()
    }
    self.chunks = scan.chunks
    self.messages = scan.messages
  }

  // MARK: Reading

  /// The trial at a position.
  /// - Throws: ``TrialsError`` `.corrupt` where the chunk does not match its CRC.
  public func read(_ position: LogPosition) throws -> TrialRecord {
    try LogScanner.trial(in: try self.reader(position.file), at: position.offset, length: position.length)
  }

  /// Every trial of a file that begins at `from` or behind it, with its position, in order.
  public func trials(
    in file: String, from start: Int = 0
  ) throws -> [(position: LogPosition, trial: TrialRecord)] {
    let reader = try self.reader(file)
    return try LogScanner.scan(reader).chunks.filter { $0.offset >= start }.map {
      let position = LogPosition(file: file, offset: $0.offset, length: $0.length)
      return (position, try LogScanner.trial(in: reader, at: $0.offset, length: $0.length))
    }
  }

  /// Trials that stand in a file, each time counted.
  public func count(in file: String) throws -> Int {
    try LogScanner.countChunks(try self.reader(file))
  }

  public var currentFile: String { self.fileName }
  /// Bytes and files of the whole log.
  public func usage() throws -> (bytes: Int, files: Int) {
    let names = try Self.fileNames(in: self.folder)
    let bytes = names.reduce(0) { sum, name in
      let attributes = try? FileManager.default.attributesOfItem(
        atPath: self.folder.appending(path: name).path)
      return sum + ((attributes?[.size] as? Int) ?? 0)
    }
    return (bytes, names.count)
  }

  private func reader(_ name: String) throws -> LogFile {
    if name == self.fileName { return self.file }
    if let reader = self.readers[name] { return reader }
    // Few files are read at once: forgetting all of them is simple and rare.
    if self.readers.count >= 16 { self.readers = [:] }
    let path = self.folder.appending(path: name).path
    guard FileManager.default.fileExists(atPath: path) else {
      throw TrialsError(.notFound, "The log file \(path) is missing.")
    }
    let reader = try LogFile(path: path)
    self.readers[name] = reader
    return reader
  }
}

extension MCAP {
  static func chunkIndex(_ chunk: TrialLog.ChunkEntry, channel: UInt16) -> [UInt8] {
    var writer = ByteWriter()
    writer.integer(chunk.start)
    writer.integer(chunk.end)
    writer.integer(UInt64(chunk.offset))
    writer.integer(UInt64(chunk.length))
    writer.integer(UInt32(10))
    writer.integer(channel)
    writer.integer(UInt64(chunk.offset + chunk.length))
    writer.integer(UInt64(chunk.indexLength))
    writer.string("")
    writer.integer(UInt64(chunk.dataLength))
    writer.integer(UInt64(chunk.dataLength))
    return Self.record(.chunkIndex, writer.bytes)
  }

  static func statistics(chunks: [TrialLog.ChunkEntry], messages: UInt64, channel: UInt16) -> [UInt8] {
    var writer = ByteWriter()
    writer.integer(messages)
    writer.integer(UInt16(1))
    writer.integer(UInt32(1))
    writer.integer(UInt32(0))
    writer.integer(UInt32(0))
    writer.integer(UInt32(chunks.count))
    writer.integer(chunks.map(\.start).min() ?? 0)
    writer.integer(chunks.map(\.end).max() ?? 0)
    writer.integer(UInt32(10))
    writer.integer(channel)
    writer.integer(messages)
    return Self.record(.statistics, writer.bytes)
  }
}
