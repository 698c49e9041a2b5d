import Foundation
import Storage
import Synchronization
import TestSupport
import Testing

@testable import FleetCore

@Suite("RestartPolicy")
struct RestartPolicyTests {
  @Test func `fast ends double the wait, up to its bound, then the process is left down`() {
    var policy = RestartPolicy()
    let pauses = (0..<10).map { _ in policy.pause(afterEndOf: .seconds(1)) }
    #expect(pauses == [1, 2, 4, 8, 16, 32, 60, 300, 300, 300].map(Duration.seconds))
    #expect(policy.isLeftDown)
  }

  @Test func `one that had worked is started again at once, however often it crashed before`() {
    var policy = RestartPolicy()
    for _ in 0..<20 { _ = policy.pause(afterEndOf: .zero) }
    #expect(policy.pause(afterEndOf: policy.fastEnd) == .seconds(1))
    #expect(!policy.isLeftDown)
    #expect(policy.pause(afterEndOf: .zero) == .seconds(1))
    #expect(policy.pause(afterEndOf: .zero) == .seconds(2))
  }
}

@Suite("Supervisor", .timeLimit(.minutes(5)))
struct SupervisorTests {
  /// What a supervisor said.
  private final class Words: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { self.lines.withLock { $0 } }
    func add(_ line: String) { self.lines.withLock { $0.append(line) } }
  }

  private let folder: TemporaryFolder
  private let layout: FleetLayout
  private let words = Words()

  init() throws {
    self.folder = try TemporaryFolder()
    self.layout = try FleetLayout(data: self.folder.path, robots: [])
    try self.layout.makeFolders()
  }

  private func child(_ name: String, _ script: String) -> ChildProcess {
    ChildProcess(
      name: name, executable: URL(filePath: "/bin/sh"), arguments: ["-c", script], log: self.layout.log(name))
  }

  /// Runs a supervisor that waits milliseconds where the real one waits seconds.
  private func supervising(_ body: (Supervisor) async throws -> Void) async throws {
    var policy = RestartPolicy()
    policy.firstPause = .milliseconds(1)
    policy.longestPause = .milliseconds(10)
    let words = self.words
    let supervisor = Supervisor(layout: self.layout, policy: policy) { words.add($0) }
    let watch = Task { try await supervisor.watch() }
    do { try await body(supervisor) } catch {
      await supervisor.stop()
      throw error
    }
    #expect(!watch.isCancelled)
    await supervisor.stop()
    try await watch.value
  }

  @Test func `a process that keeps crashing is left down, and the others go on`() async throws {
    try await self.supervising { supervisor in
      try await supervisor.start(self.child("good", "exec sleep 600"), saysReady: false)
      try await supervisor.start(self.child("bad", "echo no disk >&2; exit 3"), saysReady: false)
      try await eventually("it is left down") { self.words.all.contains { $0.hasPrefix("ERROR: bad") } }
      let error = try #require(self.words.all.last)
      #expect(error.contains("status 3") && error.contains("no disk"))
      #expect(await supervisor.status.map(\.running) == [true, false])
      let table = try #require(ProcessTable.read(self.layout.processTable))
      let bad = try #require(table.processes.last)
      #expect(bad.name == "bad" && !bad.isRunning && bad.exitStatus == 3 && bad.starts == 8)
      #expect(try #require(bad.nextStart) > Date.now.timeIntervalSince1970 + 100)
    }
  }

  @Test func `a process that is killed comes back, and the table names the new one`() async throws {
    try await self.supervising { supervisor in
      let child = try await supervisor.start(self.child("good", "exec sleep 600"), saysReady: false)
      let first = child.processIdentifier
      child.kill()
      try await eventually("it is back") { child.isRunning && child.processIdentifier != first }
      try await eventually("the table knows") {
        ProcessTable.read(self.layout.processTable)?.processes.first?.process == child.processIdentifier
      }
    }
    #expect(ProcessTable.read(self.layout.processTable) == nil, "who has ended says nothing of its children")
  }

  @Test func `what cannot start the first time ends the start, with the log's last lines`() async throws {
    try await self.supervising { supervisor in
      let error = await #expect(throws: FleetError.self) {
        try await supervisor.start(self.child("bad", "echo wrong setting >&2; exit 64"))
      }
      #expect(
        error?.message.contains("status 64") == true && error?.message.contains("wrong setting") == true)
    }
  }

  @Test func `many children that end while others begin leave the supervisor alive`() async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      // Few: Foundation's Process reads past its buffer where a process has some 1,350 descriptors open, as this one has at times.
      for lane in 0..<8 {
        group.addTask {
          for turn in 0..<5 {
            // What a child leaves behind holds its output open when the child is long forgotten.
            let child = self.child("child-\(lane)", "sleep 0.05 & echo READY child turn=\(turn)")
            try child.start()
            try await child.waitUntilReady()
            #expect(child.endpoints == ["turn": "\(turn)"])
          }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test func `the page's port is read off its address`() {
    #expect(LocalFleet.address(ofPage: "http://127.0.0.1:43211/") == "127.0.0.1:43211")
  }
}

@Suite("FleetSession", .timeLimit(.minutes(5)))
struct FleetSessionTests {
  @Test func `a second fleet in a folder is refused by name, however early it comes`() async throws {
    let folder = try TemporaryFolder()
    // The first one owns the folder and has told nothing of itself yet.
    let first = try FolderLock(folder: folder.path, owner: "fleet")
    let second = try LocalFleet(data: folder.path, robots: [])
    await #expect {
      try await FleetSession.run(second, progress: ProgressReport()) { _ in }
    } throws: {
      ($0 as? FleetError)?.code == .alreadyRunning && "\($0)".contains(folder.path)
    }
    withExtendedLifetime(first) {}
  }
}
