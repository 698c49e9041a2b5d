import Foundation
import Schemas
import SimulationKit
import Storage
import TestSupport
import Testing

@testable import Trials

@Suite("TrialLog")
struct TrialLogTests {
  @Test func `what is appended is read, also after opening again`() async throws {
    try await withTemporaryFolder { folder in
      let trials = try (0..<3).map { try SampleTrial.make(id: "t-\($0)") }
      var positions: [LogPosition] = []
      do {
        let log = try TrialLog(folder: folder.path)
        positions = try log.append(Array(trials[..<2]), storedUnixNanos: 5)
      }
      let log = try TrialLog(folder: folder.path)
      positions += try log.append([trials[2]], storedUnixNanos: 6)
      log.forgetRecovered()
      for (position, trial) in zip(positions, trials) { #expect(try log.trial(at: position) == trial) }
      let entries = try log.contents(of: log.currentFile).entries
      #expect(entries.map(\.name.trialID) == ["t-0", "t-1", "t-2"])
      #expect(entries.map(\.storedUnixNanos) == [5, 5, 6])
    }
  }

  @Test func `a torn tail of any length is cut off and nothing before it is lost`() async throws {
    try await withTemporaryFolder { folder in
      let file = try Self.write(3, in: folder, steps: 1)
      let (first, last) = (file.chunks[1].next, file.chunks[2].next)
      let bytes = file.bytes
      for cut in first..<last {
        try Data(bytes[..<cut]).write(to: file.url)
        var damages: [Range<Int>] = []
        let log = try TrialLog(
          folder: folder.path, acknowledgedEnd: { _ in first }, damaged: { damages.append($0.bytes) })
        // A chunk that is whole is a trial, even where its index is torn.
        let whole = cut >= file.chunks[2].offset + file.chunks[2].length
        #expect(try Self.ids(log) == Array(["t-0", "t-1", "t-2"].prefix(whole ? 3 : 2)), "cut at \(cut)")
        #expect(damages.isEmpty)
        let added = try log.append([file.trials[2]], storedUnixNanos: 9)
        #expect(added[0].offset == (whole ? last : first))
        #expect(try log.trial(at: added[0]) == file.trials[2])
      }
    }
  }

  @Test func `a file torn at any byte of its beginning is begun again`() async throws {
    try await withTemporaryFolder { folder in
      let file = try Self.write(1, in: folder, steps: 1)
      for cut in stride(from: 0, to: file.chunks[0].offset, by: 7) {
        try Data(file.bytes[..<cut]).write(to: file.url)
        let log = try TrialLog(folder: folder.path)
        #expect(log.currentFile == "trials-00000001.mcap")
        #expect(try log.sizes().count == 1)
        let added = try log.append(file.trials, storedUnixNanos: 1)
        #expect(try log.trial(at: added[0]) == file.trials[0])
      }
    }
  }

  @Test func `one damaged chunk costs one trial and the damaged file stands as it was`() async throws {
    try await withTemporaryFolder { folder in
      let file = try Self.write(5, in: folder, steps: 2)
      let damaged = file.chunks[2]
      // Its data, its length, and the length that its CRC covers.
      for at in [damaged.offset + damaged.length / 2, damaged.offset + 2, damaged.offset + 26] {
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
          try FileManager.default.removeItem(at: folder.appending(path: name))
        }
        var bytes = file.bytes
        bytes[at] ^= 0x40
        try Data(bytes).write(to: file.url)
        var damages: [Range<Int>] = []
        let log = try TrialLog(
          folder: folder.path, acknowledgedEnd: { _ in file.chunks[4].offset + file.chunks[4].length },
          damaged: { damages.append($0.bytes) })
        // Its head says where it ends, unless it is what is damaged.
        let end = at == damaged.offset + damaged.length / 2 ? damaged.offset + damaged.length : damaged.next
        #expect(damages == [damaged.offset..<end])
        #expect(try Self.ids(log, file.name) == ["t-0", "t-1", "t-3", "t-4"])
        #expect(log.currentFile == "trials-00000002.mcap")
        #expect(try Array(Data(contentsOf: file.url).prefix(bytes.count)) == bytes)
        // It is sealed now: opened again, nothing is said anew and nothing else is gone.
        let again = try TrialLog(folder: folder.path, damaged: { _ in Issue.record("said twice") })
        #expect(try Self.ids(again, file.name) == ["t-0", "t-1", "t-3", "t-4"])
      }
    }
  }

  @Test func `an acknowledged trial in a bad tail is damage and no torn write`() async throws {
    try await withTemporaryFolder { folder in
      let file = try Self.write(3, in: folder, steps: 2)
      var bytes = file.bytes
      bytes[file.chunks[2].offset + 100] ^= 1
      try Data(bytes).write(to: file.url)
      var damages: [Range<Int>] = []
      let log = try TrialLog(
        folder: folder.path, acknowledgedEnd: { _ in file.chunks[2].offset + file.chunks[2].length },
        damaged: { damages.append($0.bytes) })
      #expect(damages == [file.chunks[2].offset..<file.chunks[2].offset + file.chunks[2].length])
      #expect(try Self.ids(log, file.name) == ["t-0", "t-1"])
      #expect(try Array(Data(contentsOf: file.url).prefix(bytes.count)) == bytes)
    }
  }

  /// Flips, inserts, deletes and cuts bytes: opening never traps, and every trial whose bytes are whole is still read.
  @Test(arguments: 0..<40) func `random damage costs only what it hits`(seed: Int) async throws {
    try await withTemporaryFolder { folder in
      var random = SimulationRandom(seed: UInt64(seed))
      let file = try Self.write(6, in: folder, steps: 1)
      for _ in 0..<10 {
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
          try FileManager.default.removeItem(at: folder.appending(path: name))
        }
        var bytes = file.bytes
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let at = Int.random(in: 0..<bytes.count, using: &random)
          switch Int.random(in: 0..<5, using: &random) {
          case 0: bytes[at] ^= UInt8(1) << UInt8.random(in: 0..<8, using: &random)
          case 1: bytes[at] = UInt8.random(in: 0...255, using: &random)
          case 2: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
          case 3: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...300, using: &random)))
          default: bytes.removeSubrange(at...)
          }
          if bytes.isEmpty { bytes = [0] }
        }
        try Data(bytes).write(to: file.url)
        let log = try TrialLog(folder: folder.path)
        let found = try log.sizes().keys.sorted().flatMap {
          try log.contents(of: $0).entries.map(\.name.trialID)
        }
        for (index, chunk) in file.chunks.enumerated() {
          let whole =
            Data(bytes).range(of: Data(file.bytes[chunk.offset..<chunk.offset + chunk.length])) != nil
          // The times in a chunk's head are under no CRC: it may be hit and its trial be whole.
          let times = found.count { $0 == "t-\(index)" }
          #expect(whole ? times == 1 : times <= 1, "seed \(seed), trial \(index)")
        }
        _ = try log.append([file.trials[0]], storedUnixNanos: 1)
      }
    }
  }

  @Test func `a message index of no length at all does not trap`() async throws {
    try await withTemporaryFolder { folder in
      let file = try Self.write(2, in: folder, steps: 1)
      var bytes = Array(file.bytes[..<(file.chunks[1].offset + file.chunks[1].length)])
      bytes += MCAP.record(.messageIndex, [1, 0])
      try Data(bytes).write(to: file.url)
      #expect(try Self.ids(try TrialLog(folder: folder.path)) == ["t-0", "t-1"])
    }
  }

  @Test func `files are sealed at their size and stay readable`() async throws {
    try await withTemporaryFolder { folder in
      let trials = try (0..<6).map { try SampleTrial.make(id: "t-\($0)") }
      let log = try TrialLog(folder: folder.path, configuration: .init(maximumFileBytes: 3_000))
      var positions: [LogPosition] = []
      for trial in trials { positions += try log.append([trial], storedUnixNanos: 1) }
      #expect(Set(positions.map(\.file)).count > 1)
      for (position, trial) in zip(positions, trials) { #expect(try log.trial(at: position) == trial) }
      let sealed = try LogFile(folder.appending(path: positions[0].file).path, .read, on: SystemDisk())
      #expect(try LogSummary.read(sealed)?.chunks.isEmpty == false)
    }
  }

  @Test func `only files of the log's own names are the log's, and none is overwritten`() async throws {
    try await withTemporaryFolder { folder in
      let trials = try (0..<2).map { try SampleTrial.make(id: "t-\($0)") }
      do { _ = try TrialLog(folder: folder.path).append([trials[0]], storedUnixNanos: 1) }
      let before = try Data(contentsOf: folder.appending(path: "trials-00000001.mcap"))
      let strays = [
        "trials-old.mcap", "trials-00000000.mcap", "trials-0000002.mcap", "trials-00000002.mcap.bak",
      ]
      for stray in strays { try Data("mine".utf8).write(to: folder.appending(path: stray)) }
      let log = try TrialLog(folder: folder.path)
      #expect(log.currentFile == "trials-00000001.mcap")
      try log.seal()
      #expect(try TrialLog.fileNames(in: folder.path) == ["trials-00000001.mcap", "trials-00000002.mcap"])
      #expect(try Data(contentsOf: folder.appending(path: "trials-00000001.mcap")).starts(with: before))
      for stray in strays {
        #expect(try Data(contentsOf: folder.appending(path: stray)) == Data("mine".utf8))
      }
    }
  }

  @Test(arguments: [
    "", "trials-", "trials-00000000.mcap", "trials-0000001.mcap", "trials-000000001.mcap",
    "trials-+0000001.mcap",
    "trials-0x000001.mcap", "trials-1e000000.mcap", "trials- 0000001.mcap", "Trials-00000001.mcap",
    "trials-00000001.MCAP", "trials-00000001.mcap ", "trials-0000000\u{0661}.mcap", "trials-00000001-mcap",
  ])
  func `a name that is not one to the letter is none`(text: String) {
    #expect(LogFileName(text) == nil)
  }

  @Test func `a name is its number, and the last has no next`() throws {
    for number in [1, 9, 10, 12_345_678, LogFileName.maximumNumber] {
      let name = LogFileName(number: number)
      #expect(LogFileName(name.text) == name && name.text.utf8.count == 20)
    }
    #expect(LogFileName("trials-00000042.mcap")?.number == 42)
    #expect(try LogFileName(number: 9).next().text == "trials-00000010.mcap")
    let error = #expect(throws: TrialsError.self) { try LogFileName(number: 99_999_999).next() }
    #expect(error?.code == .fileSystem)
  }

  @Test func `after a gap the numbers go on from the highest`() async throws {
    try await withTemporaryFolder { folder in
      let file = try Self.write(2, in: folder, steps: 1)
      try FileManager.default.copyItem(at: file.url, to: folder.appending(path: "trials-00000007.mcap"))
      let log = try TrialLog(folder: folder.path)
      #expect(log.currentFile == "trials-00000007.mcap")
      try log.seal()
      #expect(log.currentFile == "trials-00000008.mcap")
    }
  }

  @Test func `behind the last number trials go on into the last file`() async throws {
    try await withTemporaryFolder { folder in
      let file = try Self.write(2, in: folder, steps: 1)
      try FileManager.default.moveItem(at: file.url, to: folder.appending(path: "trials-99999999.mcap"))
      let log = try TrialLog(folder: folder.path, configuration: .init(maximumFileBytes: 1))
      for trial in file.trials {
        let position = try log.append([trial], storedUnixNanos: 1)[0]
        #expect(position.file == "trials-99999999.mcap")
        #expect(try TrialLog(folder: folder.path).trial(at: position) == trial)
      }
      #expect(log.rotationFailure?.code == .fileSystem)
      #expect(try TrialLog.fileNames(in: folder.path) == ["trials-99999999.mcap"])
    }
  }

  @Test func `where something else has the last name trials go on into the file before`() async throws {
    try await withTemporaryFolder { folder in
      let file = try Self.write(2, in: folder, steps: 1)
      try FileManager.default.moveItem(at: file.url, to: folder.appending(path: "trials-99999998.mcap"))
      let log = try TrialLog(folder: folder.path, configuration: .init(maximumFileBytes: 1))
      try Data().write(to: folder.appending(path: "trials-99999999.mcap"))
      for trial in file.trials {
        #expect(try log.append([trial], storedUnixNanos: 1)[0].file == "trials-99999998.mcap")
      }
      #expect(log.rotationFailure?.code == .fileSystem)
    }
  }

  @Test func `a file that has the next name already stays as it is, and the log takes the name behind it`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let trials = try (0..<3).map { try SampleTrial.make(id: "t-\($0)") }
      let log = try TrialLog(folder: folder.path, configuration: .init(maximumFileBytes: 1))
      let stray = Data("somebody restored this while ingest ran".utf8)
      for name in ["trials-00000002.mcap", "trials-00000003.mcap"] {
        try stray.write(to: folder.appending(path: name))
      }
      let files = try trials.map { try log.append([$0], storedUnixNanos: 1)[0].file }
      #expect(files == ["trials-00000001.mcap", "trials-00000004.mcap", "trials-00000005.mcap"])
      #expect(log.rotationFailure == nil)
      for name in ["trials-00000002.mcap", "trials-00000003.mcap"] {
        #expect(try Data(contentsOf: folder.appending(path: name)) == stray)
      }
    }
  }

  /// The machine's disk, which does not see one file before it is made.
  private struct BlindDisk: DiskDouble {
    let inner = SystemDisk()
    let hidden: String

    func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
      try self.inner.open(path, access, mode: mode)
    }

    func size(of path: String) throws(StorageError) -> Int? {
      path.hasSuffix(self.hidden) ? nil : try self.inner.size(of: path)
    }
  }

  @Test func `a file that comes between looking for a name and taking it is not written over`() async throws {
    try await withTemporaryFolder { folder in
      let log = try TrialLog(folder: folder.path, disk: BlindDisk(hidden: "trials-00000002.mcap"))
      let stray = Data("somebody restored this while ingest ran".utf8)
      try stray.write(to: folder.appending(path: "trials-00000002.mcap"))
      #expect(throws: TrialsError.self) { try log.seal() }
      #expect(try Data(contentsOf: folder.appending(path: "trials-00000002.mcap")) == stray)
    }
  }

  /// Every single file operation of appending and rotating fails once.
  @Test func `a rotation that fails half way leaves every trial where it is said to be`() async throws {
    var operations = 0
    for failing in 0..<200 {
      let done = try await withTemporaryFolder { folder in
        let disk = FailingDisk()
        let log = try TrialLog(
          folder: folder.path, configuration: .init(maximumFileBytes: 5_000), disk: disk)
        disk.fail(after: failing)
        var stored: [(LogPosition, TrialRecord)] = []
        for index in 0..<8 {
          let trial = try SampleTrial.make(id: "t-\(index)", steps: 2)
          // Whoever is refused sends again, as a robot does.
          for _ in 0..<2 where stored.last?.1 != trial {
            if let position = try? log.append([trial], storedUnixNanos: 1) {
              stored.append((position[0], trial))
            }
          }
        }
        #expect(stored.count == 8)
        for (position, trial) in stored {
          #expect(try log.trial(at: position) == trial, "fails at \(failing)")
        }
        let reopened = try TrialLog(folder: folder.path)
        let names = try TrialLog.fileNames(in: folder.path)
        let ids = try names.flatMap { try reopened.contents(of: $0).entries.map(\.name.trialID) }
        #expect(ids == (0..<8).map { "t-\($0)" }, "fails at \(failing)")
        // No litter: only the last file may be without a trial.
        for name in names.dropLast() { #expect(try !reopened.contents(of: name).entries.isEmpty) }
        return !disk.hasFailed
      }
      operations = failing
      if done { break }
    }
    #expect((20..<199).contains(operations))
  }

  @Test func `Python's mcap reader opens sealed and open files and decodes the messages`() async throws {
    try await withTemporaryFolder { folder in
      let trials = try (0..<4).map { try SampleTrial.make(id: "t-\($0)", task: "drawer") }
      let log = try TrialLog(folder: folder.path)
      _ = try log.append(Array(trials[..<3]), storedUnixNanos: 3_000_000_000)
      try log.seal()
      let output = try Python.run(
        "Tests/Interop/mcap_peer.py", [folder.appending(path: "trials-00000001.mcap").path])
      #expect(output.contains("messages 12 steps 24 tasks drawer,drawer,drawer chunks 3"))
    }
  }

  // MARK: Files

  struct Written {
    var name: String
    var url: URL
    var bytes: [UInt8]
    var chunks: [LogChunk]
    var trials: [TrialRecord]
  }

  /// A log file with trials t-0, t-1 …, not sealed.
  static func write(_ count: Int, in folder: URL, steps: Int) throws -> Written {
    let log = try TrialLog(folder: folder.path)
    let trials = try (0..<count).map { try SampleTrial.make(id: "t-\($0)", steps: steps) }
    for trial in trials { _ = try log.append([trial], storedUnixNanos: 7) }
    let url = folder.appending(path: log.currentFile)
    return Written(
      name: log.currentFile, url: url, bytes: Array(try Data(contentsOf: url)),
      chunks: try log.contents(of: log.currentFile).entries.map(\.chunk), trials: trials)
  }

  static func ids(_ log: TrialLog, _ file: String? = nil) throws -> [String] {
    try log.contents(of: file ?? log.currentFile).entries.map(\.name.trialID)
  }
}

/// The Python of `deploy/setup`.
enum Python {
  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  static func run(_ script: String, _ arguments: [String]) throws -> String {
    let process = Process()
    let python =
      ProcessInfo.processInfo.environment["FLEETLOOP_PYTHON"]
      ?? self.root.appending(path: ".python/bin/python").path
    process.executableURL = URL(filePath: python)
    process.arguments = [self.root.appending(path: script).path] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let text = String(decoding: data, as: UTF8.self)
    try #require(process.terminationStatus == 0, "\(script) ended with \(process.terminationStatus): \(text)")
    return text
  }
}
