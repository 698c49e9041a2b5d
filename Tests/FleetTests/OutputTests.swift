import Foundation
import TestSupport
import Testing

@testable import FleetCore

@Suite("Output")
struct OutputTests {
  @Test func `tables align words to the left and numbers to the right`() {
    var table = TextTable(["name", "count"])
    table.add("a", "5")
    table.add("longer", "100")
    #expect(table.render() == "name    count\n──────  ─────\na           5\nlonger    100\n")
  }

  @Test func `the summary has the keys that scripts rely on`() throws {
    var summary = LoopSummary()
    summary.transfer = .init(
      task: "t", demonstrations: 1, optimizerSteps: 2, seconds: 3, successes: 1, trials: 1)
    summary.experiments = [
      .init(
        baseline: "v1", candidate: "v2", decision: "promote", baselineTrials: 1, baselineSuccesses: 1,
        candidateTrials: 1, candidateSuccesses: 1, pValue: 0.5)
    ]
    summary.rollbacks = [.init(from: "v-bad", to: "v3", detectSeconds: 1, restoreSeconds: 2)]
    summary.success = ["v1": ["reach": .init(successes: 1, trials: 2)]]
    let path = FileManager.default.temporaryDirectory.appending(path: "summary-\(UUID().uuidString).json")
    defer { try? FileManager.default.removeItem(at: path) }
    try summary.write(to: path.path)
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: path)) as? [String: Any])
    #expect(
      Set(object.keys) == [
        "trials", "models", "success", "experiments", "transfer", "rollbacks", "alerts", "phases",
      ])
    let trials = try #require(object["trials"] as? [String: Any])
    #expect(Set(trials.keys) == ["published", "stored", "rejected", "lost", "duplicates"])
    let rollback = try #require((object["rollbacks"] as? [[String: Any]])?.first)
    #expect(Set(rollback.keys) == ["from", "to", "detectSeconds", "restoreSeconds"])
    #expect(try JSONDecoder().decode(LoopSummary.self, from: Data(contentsOf: path)) == summary)
  }

  @Test func `a summary that cannot be written says where`() {
    #expect {
      try LoopSummary().write(to: "/nowhere/at/all.json")
    } throws: {
      "\($0)".contains("/nowhere/at/all.json")
    }
  }

  @Test func `what cannot be said as JSON is an error, not silence`() {
    struct Unsayable: Encodable {
      func encode(to encoder: any Encoder) throws {
        throw EncodingError.invalidValue(self, .init(codingPath: [], debugDescription: "the test's"))
      }
    }
    #expect(throws: EncodingError.self) { try Listing.show(json: Unsayable()) }
    #expect(throws: EncodingError.self) {
      try Listing(columns: ["a"], rows: []).show(json: [Unsayable()])
    }
  }

  @Test func `the same data folder has the same sockets, and short ones`() throws {
    let first = try FleetLayout(data: "/tmp/" + String(repeating: "long", count: 60), robots: ["robot-1"])
    let second = try FleetLayout(data: "/tmp/" + String(repeating: "long", count: 60), robots: [])
    #expect(first.sockets == second.sockets)
    // A unix socket's path has at most 107 bytes.
    #expect(first.socket("monitor.publications").dropFirst("ipc://".count).utf8.count <= 107)
    #expect(first.robotRPC("robot-100").utf8.count <= 113)
  }

  @Test func `sockets are made only where nobody else can reach them`() throws {
    let folder = try TemporaryFolder()
    let layout = try FleetLayout(data: folder.path, robots: [])
    defer { try? FileManager.default.removeItem(at: layout.sockets) }
    try layout.makeFolders()
    // Somebody was here first, and left the door open.
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: layout.sockets.path)
    #expect {
      try layout.makeFolders()
    } throws: {
      "\($0)".contains(layout.sockets.path)
    }
  }
}

@Suite("ChildProcess")
struct ChildProcessTests {
  private func child(_ script: String) -> ChildProcess {
    let log = FileManager.default.temporaryDirectory.appending(path: "child-\(UUID().uuidString).log")
    return ChildProcess(
      name: "child", executable: URL(filePath: "/bin/sh"), arguments: ["-c", script], log: log)
  }

  @Test func `READY carries endpoints`() async throws {
    let child = self.child("echo READY child rpc=ipc:///tmp/x http=127.0.0.1:1; sleep 60")
    try child.start()
    try await child.waitUntilReady(limit: .seconds(20))
    #expect(child.endpoints == ["rpc": "ipc:///tmp/x", "http": "127.0.0.1:1"])
    child.kill()
  }

  @Test func `one that ends first is told with its status and its last words`() async throws {
    let child = self.child("echo no such key >&2; exit 3")
    try child.start()
    await #expect {
      try await child.waitUntilReady(limit: .seconds(20))
    } throws: {
      "\($0)".contains("status 3") && "\($0)".contains("no such key")
    }
  }

  @Test func `a missing program says how to build it`() {
    let child = ChildProcess(
      name: "x", executable: URL(filePath: "/nowhere/x"), arguments: [], log: URL(filePath: "/tmp/x.log"))
    #expect {
      try child.start()
    } throws: {
      "\($0)".contains("swift build")
    }
  }
}
