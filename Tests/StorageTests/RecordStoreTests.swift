import Foundation
import Storage
import Synchronization
import TestSupport
import Testing

@Suite("RecordStore")
struct RecordStoreTests {
  private struct Robot: Codable, Hashable {
    var name: String
    var trials: Int
  }

  private let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  private func open() throws -> RecordStore {
    try RecordStore(folder: self.folder.path, name: "fleet", tables: ["robot", "alert"])
  }

  @Test func `what differs is written and found after a restart`() throws {
    let old = ["a": Robot(name: "a", trials: 1), "b": Robot(name: "b", trials: 2)]
    let new = ["a": Robot(name: "a", trials: 7), "c": Robot(name: "c", trials: 3)]
    do {
      let store = try self.open()
      var changes = RecordStore.Changes()
      try changes.replace([:], with: old, in: "robot")
      changes.put([0, 255], id: "x", in: "alert")
      try store.apply(changes)
      changes = RecordStore.Changes()
      try changes.replace(old, with: new, in: "robot")
      try store.apply(changes)
    }
    let store = try self.open()
    #expect(try store.records(in: "robot") == new)
    #expect(try store.records(in: "alert") { $0 } == ["x": [0, 255]])
  }

  @Test func `the same records make no change`() throws {
    let robots = ["a": Robot(name: "a", trials: 1)]
    var changes = RecordStore.Changes()
    try changes.replace(robots, with: robots, in: "robot")
    #expect(changes.isEmpty)
  }

  @Test func `a transaction that fails changes nothing`() throws {
    let store = try self.open()
    var changes = RecordStore.Changes()
    changes.put([1], id: "x", in: "alert")
    changes.put([1], id: "x", in: "nothing")
    let gathered = changes
    #expect(throws: StorageError.self) { try store.apply(gathered) }
    #expect(try store.records(in: "alert") { $0 }.isEmpty)
  }

  @Test func `one process owns a folder`() throws {
    let first = try self.open()
    let error = #expect(throws: StorageError.self) { try self.open() }
    #expect(error?.code == .inUse)
    #expect(error?.message.contains(self.folder.path) == true)
    withExtendedLifetime(first) {}
  }

  @Test func `a lock that is refused closes its own descriptor only`() async throws {
    let first = try FolderLock(folder: self.folder.path, owner: "ingest")
    let folder = self.folder.path
    let isOver = Atomic(false)
    let refusing = Thread {
      for _ in 0..<20_000 { _ = try? FolderLock(folder: folder, owner: "ingest") }
      isOver.store(true, ordering: .relaxed)
    }
    refusing.start()
    var stolen = 0
    while !isOver.load(ordering: .relaxed) {
      let descriptor = Foundation.open("/dev/null", O_RDONLY | O_CLOEXEC)
      if close(descriptor) != 0 { stolen += 1 }
    }
    #expect(stolen == 0)
    withExtendedLifetime(first) {}
  }

  @Test func `a folder that cannot be is told`() throws {
    let error = #expect(throws: StorageError.self) { try FolderLock(folder: "/proc/none", owner: "ingest") }
    #expect(error?.code == .fileSystem)
  }

  @Test func `a file that is no database is told and left alone`() throws {
    let garbage = Data(repeating: 7, count: 8_192)
    let file = URL(filePath: "\(self.folder.path)/fleet.sqlite")
    try garbage.write(to: file)
    let error = #expect(throws: StorageError.self) { try self.open() }
    #expect(error?.code == .corrupt)
    #expect(try Data(contentsOf: file) == garbage)
  }

  @Test
  func `a record that nobody understands is set aside, told until it is deleted, and the others are there`()
    throws
  {
    let good = ["b": Robot(name: "b", trials: 2)]
    do {
      let store = try self.open()
      var changes = RecordStore.Changes()
      try changes.put(["wrong"], id: "a", in: "robot")
      try changes.replace([:], with: good, in: "robot")
      changes.put([1, 2], id: "c", in: "robot")
      changes.put([9], id: "x", in: "alert")
      try store.apply(changes)
      #expect(try store.records(in: "robot") == good)
    }
    let store = try self.open()
    #expect(try store.records(in: "robot") == good)
    let damages = try store.damages()
    #expect(damages.map(\.table) == ["robot", "robot"] && Set(damages.map(\.id)) == ["a", "c"])
    #expect(try store.records(in: "alert") { $0 } == ["x": [9]])
    // The same id is a record again, and is not lost with the old one.
    var changes = RecordStore.Changes()
    try changes.put(Robot(name: "a", trials: 1), id: "a", in: "robot")
    try store.apply(changes)
    #expect(try store.records(Robot.self, in: "robot").count == 2)
    try store.setAside("robot", why: "no longer believed")
    #expect(try store.records(Robot.self, in: "robot").isEmpty)
    #expect(try store.damages().count == 4)
  }
}
