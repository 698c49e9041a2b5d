import Schemas

/// Reads MCAP files as ``TrialLog`` writes them, trusting nothing: what is damaged or unreadable is passed over, whatever length
/// it claims.
struct LogScanner {
  /// What stands in the data section of a file.
  struct Scan: Equatable {
    /// A good chunk and whose trial it holds.
    struct Entry: Equatable {
      var chunk: LogChunk
      var name: TrialName
      /// Unix nanoseconds.
      var storedUnixNanos: Int64
    }

    /// Where the first chunk belongs; 0 where the file's head is damaged.
    var start: Int
    var entries: [Entry] = []
    /// Bytes that are no good although a good chunk follows, by the trials that were there.
    var damages: [Range<Int>] = []
    /// Bytes behind the last good chunk that a trial may have been in, likewise.
    var tail: [Range<Int>] = []
    /// Where the last good chunk ends, its index included: what follows is torn, damaged or a summary.
    var goodEnd: Int
    /// Whether the last chunk's index is as it should be.
    var endsWithIndex = true
  }

  /// Bytes that are read at once where the next chunk is searched for.
  private static let window = 1 << 20
  /// Bytes that are checksummed while searching, as a multiple of the file: what only looks like chunks must not cost hours.
  private static let searchBudget = 8

  private let file: LogFile
  /// End of what is looked at.
  private let end: Int
  private var budget: Int

  /// - Parameter end: where the data section ends at the latest; nil for the file's end.
  init(_ file: LogFile, end: Int? = nil) {
    self.file = file
    self.end = end ?? file.size
    self.budget = Self.searchBudget * file.size
  }

  /// Every good chunk, in order.
  static func scan(_ file: LogFile, end: Int? = nil) throws(TrialsError) -> Scan {
    var scanner = LogScanner(file, end: end)
    return try scanner.run()
  }

  private mutating func run() throws(TrialsError) -> Scan {
    let start = try self.start()
    var scan = Scan(start: start, goodEnd: start)
    var offset = start
    // Behind this nothing is known to be good.
    var verified = start
    // Whether a chunk belongs at `offset`. Behind one that was found by looking for it nothing says so.
    var isPlaced = start > 0
    while true {
      var found = try self.record(at: offset)
      let inside = found == nil && isPlaced ? try self.endOfDamaged(at: offset) : nil
      if found == nil, let next = try self.nextRecord(from: verified, endingBehind: inside ?? verified) {
        isPlaced = isPlaced && next.chunk.offset == inside ?? offset
        // An index that is damaged while the chunks around it are good has cost nobody a trial.
        if next.chunk.offset != offset {
          let bytes = offset < next.chunk.offset ? offset..<next.chunk.offset : verified..<next.chunk.offset
          let places = try DamagedPlaces(file: self.file).places(in: bytes)
          // Too little for a trial, and yet not as it should be.
          scan.damages += places.isEmpty ? [bytes] : places
        }
        found = next
      }
      guard let record = found, let name = record.name else {
        let tail = min(scan.endsWithIndex ? verified : offset, self.end)
        scan.tail = try DamagedPlaces(file: self.file).places(in: tail..<self.end)
        return scan
      }
      var chunk = record.chunk
      let index = record.index
      chunk.indexLength = index.count
      verified = chunk.offset + chunk.length
      scan.endsWithIndex = try self.stands(index, at: verified)
      scan.entries.append(.init(chunk: chunk, name: name, storedUnixNanos: record.storedUnixNanos))
      offset = chunk.next
      if scan.endsWithIndex { verified = offset }
      scan.goodEnd = verified
    }
  }

  /// Where the first chunk belongs; 0 where the file's head is damaged: a length in it that is not as it was written leads past
  /// the first chunks, which are good all the same.
  private mutating func start() throws(TrialsError) -> Int {
    let start = try self.endOfHead()
    guard start > 0, try self.record(at: start) == nil,
      let first = try self.nextRecord(from: MCAP.magic.count), first.chunk.offset < start
    else { return start }
    return 0
  }

  /// Where magic, header, schema and channel end; 0 where these are damaged.
  private func endOfHead() throws(TrialsError) -> Int {
    guard self.end >= MCAP.magic.count,
      try self.file.readUnlessBad(at: 0, count: MCAP.magic.count) == MCAP.magic
    else { return 0 }
    var offset = MCAP.magic.count
    for opcode in [MCAP.Opcode.header, .schema, .channel] {
      guard self.end - offset >= MCAP.recordOverhead,
        let bytes = try self.file.readUnlessBad(at: offset, count: MCAP.recordOverhead)
      else { return 0 }
      var head = ByteReader(bytes[...])
      guard head.integer(UInt8.self) == opcode.rawValue, let length: UInt64 = head.integer(),
        length <= UInt64(self.end - offset - MCAP.recordOverhead)
      else { return 0 }
      offset += MCAP.recordOverhead + Int(length)
    }
    return offset
  }

  private func stands(_ bytes: [UInt8], at offset: Int) throws(TrialsError) -> Bool {
    guard bytes.count <= self.end - offset else { return false }
    return try self.file.readUnlessBad(at: offset, count: bytes.count) == bytes
  }

  /// The good chunk at an offset.
  private func record(at offset: Int) throws(TrialsError) -> ChunkRecord? {
    guard let length = try self.length(at: offset),
      let bytes = try self.file.readUnlessBad(at: offset, count: length),
      let record = ChunkRecord(bytes, at: offset), record.name != nil
    else { return nil }
    return record
  }

  private func length(at offset: Int) throws(TrialsError) -> Int? {
    guard self.end - offset >= ChunkRecord.headBytes,
      let head = try self.file.readUnlessBad(at: offset, count: ChunkRecord.headBytes),
      let length = ChunkRecord.length(head: head[...]),
      length <= self.end - offset
    else { return nil }
    return length
  }

  /// Where damaged chunks end whose heads stand where chunks belong and are good: what lies inside of one is its trial's, also
  /// where that was made to look like a chunk. Nil where none stands there.
  private func endOfDamaged(at start: Int) throws(TrialsError) -> Int? {
    let places = DamagedPlaces(file: self.file)
    var end = start
    while try self.record(at: end) == nil, let length = try places.length(at: end) {
      // Torn: nothing was ever written behind it.
      guard length <= self.end - end else { return self.end }
      end += length
      end += try places.indexLength(at: end, until: self.end)
    }
    return end > start ? end : nil
  }

  /// The first good chunk that begins at `start` or behind it.
  /// - Parameter inside: end of what is another chunk's. None that ends there or before is one: whoever wrote what is in that chunk
  ///   did not know what was to follow.
  private mutating func nextRecord(from start: Int, endingBehind inside: Int = 0) throws(TrialsError)
    -> ChunkRecord?
  {
    var start = start
    while self.end - start >= ChunkRecord.headBytes {
      let bytes = try self.file.readAroundBad(at: start, count: min(Self.window, self.end - start))
      let heads = bytes.count - ChunkRecord.headBytes + 1
      for candidate in Self.candidates(in: bytes, heads: heads) {
        guard let length = ChunkRecord.length(head: bytes[candidate..<candidate + ChunkRecord.headBytes]),
          length <= self.end - start - candidate, start + candidate + length > inside
        else { continue }
        guard length <= self.budget else { return nil }
        self.budget -= length
        if let record = try self.record(at: start + candidate) { return record }
      }
      start += heads
    }
    return nil
  }

  /// Offsets of bytes that may begin a chunk record: its opcode, and zeros in the upper half of the length that follows.
  static func candidates(in bytes: [UInt8], heads: Int) -> [Int] {
    bytes.withUnsafeBufferPointer { bytes in
      var candidates: [Int] = []
      for offset in 0..<heads
      where bytes[offset] == MCAP.Opcode.chunk.rawValue && bytes[offset + 8] == 0 && bytes[offset + 7] == 0 {
        candidates.append(offset)
      }
      return candidates
    }
  }
}
