import Foundation
import Storage
import Synchronization
import TestSupport
import Testing

/// A disk with little room, which a small file still finds.
private final class NarrowDisk: DiskDouble {
  let inner = SystemDisk()
  private let bytes = Mutex(DurableFile.room - 1)
  var free: UInt64 {
    get { self.bytes.withLock { $0 } }
    set { self.bytes.withLock { $0 = newValue } }
  }

  func open(_ path: String, _ access: DiskAccess, mode: UInt32) throws(StorageError) -> any DiskFile {
    try self.inner.open(path, access, mode: mode)
  }
  func freeBytes(at folder: String) throws(StorageError) -> UInt64 { self.free }
}

@Suite("DurableFile")
struct DurableFileTests {
  private let folder: TemporaryFolder
  private var path: String { "\(self.folder.path)/kept" }

  init() throws { self.folder = try TemporaryFolder() }

  @Test func `the newest content is read, and nothing else is left`() throws {
    try DurableFile.write([1, 2, 3], to: self.path)
    try DurableFile.write([4], to: self.path, mode: 0o600)
    #expect(try DurableFile.read(self.path, limit: 1) == [4])
    #expect(try self.folder.names(".") == ["kept"])
    let attributes = try FileManager.default.attributesOfItem(atPath: self.path)
    #expect(attributes[.posixPermissions] as? Int == 0o600)
  }

  @Test func `a disk that takes no more than small files is full`() throws {
    let disk = NarrowDisk()
    #expect { try DurableFile.probe(self.folder.path, on: disk) } throws: {
      ($0 as? StorageError)?.code == .diskFull
    }
    disk.free = DurableFile.room
    try DurableFile.probe(self.folder.path, on: disk)
    #expect(try self.folder.names(".").isEmpty)
  }

  @Test func `what is refused again and again is told in the same words`() throws {
    let path = "\(self.folder.path)/none/kept"
    let errors = (1...2).map { _ in
      #expect(throws: StorageError.self) { try DurableFile.write([1], to: path) }?.message
    }
    #expect(errors[0] == errors[1])
    #expect(errors[0]?.contains(path) == true && errors[0]?.contains(".partial") == false)
  }

  @Test func `what cannot be read says why`() throws {
    try DurableFile.write([1, 2, 3], to: self.path)
    #expect { try DurableFile.read(self.path, limit: 2) } throws: {
      ($0 as? StorageError)?.code == .tooLarge
    }
    #expect { try DurableFile.read(self.path + "x", limit: 2) } throws: {
      ($0 as? StorageError)?.code == .notFound
    }
    #expect { try DurableFile.read(self.folder.path, limit: 2) } throws: {
      ($0 as? StorageError)?.code == .fileSystem
    }
  }

  @Test func `leftovers of a crash go, everything else stays`() throws {
    try DurableFile.write([1], to: self.path)
    try DurableFile.write([2], to: self.path + ".7.partial")
    try DurableFile.removeLeftovers(in: self.folder.path)
    #expect(try self.folder.names(".") == ["kept"])
  }

  @Test func `a file that is there is never made anew`() throws {
    try DurableFile.write([1], to: self.path)
    #expect { try SystemDisk().open(self.path, .create) } throws: {
      ($0 as? StorageError)?.code == .exists
    }
    #expect(try DurableFile.read(self.path, limit: 9) == [1])
  }

  @Test(arguments: [
    ("/a/b", "/a"), ("/a", "/"), ("/", "/"), ("a/b", "a"), ("a", "."), (".", "."), ("./a", "."),
    ("a/b/", "a"), ("", "."),
  ])
  func `every path has a folder`(path: String, folder: String) {
    #expect(DurableFile.folder(of: path) == folder)
  }
}
