import Foundation
import Schemas
import TestSupport
import Testing

@testable import RobotCore

/// What is noticed of damage to a spooled trial, and the format of the agents before, which had no checksums.
@Suite struct SpoolFormatTests {
  private let folder: TemporaryFolder
  private let events = Messages.events("t1")
  private var file: URL { URL(filePath: self.folder.path + "/ready/000000000001_t1") }

  init() throws { self.folder = try TemporaryFolder() }

  private func openSpool() throws -> Spool { try Spool(folder: self.folder.path, limitBytes: 1 << 20) }

  /// Expects that a file in the place of the trial's is damage.
  /// - Returns: what is said of it.
  @discardableResult
  private func expectDamage(
    _ bytes: Data, in spool: Spool, _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> String {
    try bytes.write(to: self.file)
    let error = await #expect(throws: RobotError.self, what, sourceLocation: sourceLocation) {
      _ = try await spool.events(of: "t1")
    }
    #expect(error?.code == .damaged, what, sourceLocation: sourceLocation)
    return error?.message ?? ""
  }

  @Test func `any bit that is turned in a spooled trial is damage`() async throws {
    let spool = try self.openSpool()
    try await spool.store("t1")
    let whole = try Data(contentsOf: self.file)
    for bit in 0..<whole.count * 8 {
      try await self.expectDamage(whole.turning(bit), in: spool, "bit \(bit)")
    }
    try whole.write(to: self.file)
    #expect(try await spool.events(of: "t1") == self.events)
  }

  @Test func `a spooled trial that ends early is damage, also where an event ends there`() async throws {
    let spool = try self.openSpool()
    try await spool.store("t1")
    let whole = try Data(contentsOf: self.file)
    for count in 0..<whole.count {
      try await self.expectDamage(whole.prefix(count), in: spool, "\(count) bytes")
    }
  }

  @Test func `a spooled trial of an agent before is read, and is damage where it ends early or has zeros`()
    async throws
  {
    // Makes the folders.
    _ = try self.openSpool()
    let whole = Messages.uncheckedSpoolFile("t1")
    try whole.write(to: self.file)
    let spool = try self.openSpool()
    #expect(try await spool.events(of: "t1") == self.events)
    try await self.expectDamage(Data(count: whole.count), in: spool, "all zeros")
    try await self.expectDamage(Data(count: 64) + whole.dropFirst(64), in: spool, "zeros at the begin")
    try await self.expectDamage(whole.dropLast(), in: spool, "a byte is missing")
  }

  @Test func `a spooled trial of a later format is kept aside, and says so`() async throws {
    let spool = try self.openSpool()
    try await spool.store("t1")
    var file = try Data(contentsOf: self.file)
    file[4] = 3
    let message = try await self.expectDamage(file, in: spool, "version 3")
    #expect(message.contains("format 3"))
  }
}
