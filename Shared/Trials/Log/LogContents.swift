/// Every good chunk of one log file, and the bytes that hold none although some were to be there.
struct LogContents: Equatable {
  var entries: [LogScanner.Scan.Entry]
  var damages: [Range<Int>]

  /// Reads a file to its last byte: by its index where it is sealed, else by its records.
  /// - Parameter end: of what counts in it; nil for the file's end.
  static func read(_ file: LogFile, until end: Int? = nil) throws(TrialsError) -> LogContents {
    guard let summary = try LogSummary.read(file) else {
      let scan = try LogScanner.scan(file, end: end)
      return LogContents(entries: scan.entries, damages: scan.damages + scan.tail)
    }
    var contents = LogContents(entries: [], damages: [])
    for chunk in summary.chunks {
      guard let bytes = try file.readUnlessBad(at: chunk.offset, count: chunk.length),
        let record = ChunkRecord(bytes, at: chunk.offset), let name = record.name
      else {
        contents.damages.append(chunk.offset..<chunk.offset + chunk.length)
        continue
      }
      contents.entries.append(.init(chunk: chunk, name: name, storedUnixNanos: record.storedUnixNanos))
    }
    return contents
  }
}
