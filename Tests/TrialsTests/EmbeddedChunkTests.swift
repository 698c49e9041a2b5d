import Foundation
import Schemas
import Testing

@testable import Trials

/// A trial whose video is made to look like another robot's trial in the log.
@Suite("LogScanner, embedded chunks")
struct EmbeddedChunkTests {
  /// A good chunk, index and all, of a robot that never sent it.
  private static func forged() async throws -> [UInt8] {
    try await withTemporaryFolder { folder in
      let log = try TrialLog(folder: folder.path)
      _ = try log.append([try SampleTrial.make(robot: "victim", id: "v-1", steps: 1)], storedUnixNanos: 7)
      let chunk = try #require(try log.contents(of: log.currentFile).entries.first?.chunk)
      let bytes = try Data(contentsOf: folder.appending(path: log.currentFile))
      return Array(bytes[chunk.offset..<chunk.next])
    }
  }

  private static func carrier(_ id: String, of forged: [UInt8]) throws -> TrialRecord {
    var trial = try SampleTrial.make(id: id, steps: 1)
    if case .video(var video) = trial.events[2].event {
      let padding = [UInt8](repeating: 0xAA, count: 2_000)
      video.data = padding + forged + padding
      trial.events[2].event = .video(video)
    }
    return trial
  }

  /// - Parameters:
  ///   - carriers: how many stand behind a good trial.
  ///   - follows: whether a good trial stands behind them.
  ///   - harm: what becomes of the file, whose carriers' chunks it is told.
  /// - Returns: trials that are found, and the damage.
  private static func found(
    carriers: Int, follows: Bool, _ harm: (inout [UInt8], [LogChunk]) -> Void
  ) async throws -> (ids: [String], damages: [Range<Int>], chunks: [LogChunk]) {
    let forged = try await Self.forged()
    return try await withTemporaryFolder { folder in
      var trials = [try SampleTrial.make(id: "first", steps: 1)]
      for index in 0..<carriers { trials.append(try Self.carrier("carrier-\(index)", of: forged)) }
      if follows { trials.append(try SampleTrial.make(id: "last", steps: 1)) }
      var chunks: [LogChunk] = []
      var name = ""
      do {
        let log = try TrialLog(folder: folder.path)
        for trial in trials { _ = try log.append([trial], storedUnixNanos: 7) }
        name = log.currentFile
        let all = try log.contents(of: name).entries.map(\.chunk)
        try #require(all.count == trials.count)
        chunks = Array(all[1..<1 + carriers])
      }
      let url = folder.appending(path: name)
      var bytes = Array(try Data(contentsOf: url))
      harm(&bytes, chunks)
      try Data(bytes).write(to: url)
      var damages: [Range<Int>] = []
      let log = try TrialLog(folder: folder.path, damaged: { damages.append($0.bytes) })
      return (try TrialLogTests.ids(log, name), damages, chunks)
    }
  }

  @Test func `a trial that is torn behind one it carries is torn`() async throws {
    let found = try await Self.found(carriers: 1, follows: false) { bytes, chunks in
      bytes.removeSubrange((chunks[0].offset + chunks[0].length - 1_000)...)
    }
    #expect(found.ids == ["first"])
    #expect(found.damages.isEmpty)
  }

  @Test(arguments: [1, 2], [false, true])
  func `a damaged trial is one place, whatever it carries`(carriers: Int, follows: Bool) async throws {
    let found = try await Self.found(carriers: carriers, follows: follows) { bytes, chunks in
      for chunk in chunks { bytes[chunk.offset + chunk.length - 1_000] ^= 1 }
    }
    #expect(found.ids == (follows ? ["first", "last"] : ["first"]))
    #expect(found.damages == found.chunks.map { $0.offset..<$0.offset + $0.length })
  }
}
