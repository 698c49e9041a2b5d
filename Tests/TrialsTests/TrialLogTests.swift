import Foundation
import Schemas
import Testing

@testable import Trials

@Suite("TrialLog")
struct TrialLogTests {
  @Test func `what is appended is read, also after opening again`() async throws {
    try await withTemporaryFolder { folder in
      let trials = try (0..<3).map { try SampleTrial.make(id: "t-\($0)") }
      var positions: [LogPosition] = []
      do {
        let log = try TrialLog(folder: folder)
        positions = try log.append(Array(trials[..<2]))
      }
      let log = try TrialLog(folder: folder)
      positions += try log.append([trials[2]])
      for (position, trial) in zip(positions, trials) { #expect(try log.read(position) == trial) }
      #expect(try log.trials(in: log.currentFile).map(\.trial) == trials)
      #expect(try log.count(in: log.currentFile) == 3)
    }
  }

  @Test func `a torn tail of any length is cut off and nothing before it is lost`() async throws {
    try await withTemporaryFolder { folder in
      let trials = try (0..<3).map { try SampleTrial.make(id: "t-\($0)", steps: 2) }
      var sizes: [Int] = []
      var name = ""
      do {
        let log = try TrialLog(folder: folder)
        name = log.currentFile
        for trial in trials {
          _ = try log.append([trial])
          sizes.append(try log.usage().bytes)
        }
      }
      let path = folder.appending(path: name)
      let whole = try Data(contentsOf: path)
      for cut in stride(from: sizes[1], to: sizes[2], by: 37) {
        try whole.prefix(cut).write(to: path)
        let log = try TrialLog(folder: folder)
        #expect(try log.trials(in: name).map(\.trial) == Array(trials[..<2]))
        let added = try log.append([trials[2]])
        #expect(try log.read(added[0]) == trials[2])
      }
      // A flipped bit in the last chunk is no good chunk either.
      var damaged = whole
      damaged[sizes[2] - 200] ^= 0x40
      try damaged.write(to: path)
      #expect(try TrialLog(folder: folder).trials(in: name).map(\.trial) == Array(trials[..<2]))
    }
  }

  @Test func `files are sealed at their size and stay readable`() async throws {
    try await withTemporaryFolder { folder in
      let trials = try (0..<6).map { try SampleTrial.make(id: "t-\($0)") }
      let log = try TrialLog(folder: folder, configuration: .init(maximumFileBytes: 3_000))
      var positions: [LogPosition] = []
      for trial in trials { positions += try log.append([trial]) }
      #expect(Set(positions.map(\.file)).count > 1)
      for (position, trial) in zip(positions, trials) { #expect(try log.read(position) == trial) }
      #expect(try LogScanner.isSealed(folder.appending(path: positions[0].file).path))
    }
  }

  @Test func `Python's mcap reader opens sealed and open files and decodes the messages`() async throws {
    try await withTemporaryFolder { folder in
      let trials = try (0..<4).map { try SampleTrial.make(id: "t-\($0)", task: "drawer") }
      let log = try TrialLog(folder: folder)
      _ = try log.append(Array(trials[..<3]))
      try log.seal()
      let output = try Python.run(
        "Tests/Interop/mcap_peer.py", [folder.appending(path: "trials-00000001.mcap").path])
      #expect(output.contains("messages 12 steps 24 tasks drawer,drawer,drawer chunks 3"))
    }
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
