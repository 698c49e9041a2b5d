import Foundation
import SimulationKit

/// The folders of an SQLite database through the lives of its host: each life opens a copy of its own, so that what a
/// dead one still holds open cannot be written by it.
///
/// On the machine's memory file system, because SQLite is the real one. A power cut may give back an earlier state, as it
/// does to a database that syncs when it checkpoints.
final class DatabaseFolders {
  private let root: String
  private let random: () -> UInt64
  private var count = 0
  /// Copies of earlier states, the latest last.
  private var earlier: [String] = []
  private(set) var current: String

  /// - Parameter root: a folder that is not there yet.
  init(root: String, random: @escaping () -> UInt64) throws {
    self.root = root
    self.random = random
    self.current = "\(root)/0"
    try FileManager.default.createDirectory(atPath: self.current, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: self.root) }

  /// Keeps the state of this moment for a power cut to give back.
  func remember() throws {
    self.earlier.append(try self.copy(of: self.current))
    if self.earlier.count > 4 { try FileManager.default.removeItem(atPath: self.earlier.removeFirst()) }
  }

  /// What the next life finds. Call it within the job in which the host dies.
  func survive(_ death: Death, keepsCommits: Bool) throws {
    let dead = self.current
    defer { try? FileManager.default.removeItem(atPath: dead) }
    if death == .powerCut, !keepsCommits, let state = self.earlier.randomElement(using: &self.generator) {
      self.current = try self.copy(of: state)
    } else {
      self.current = try self.copy(of: dead)
    }
  }

  /// The next life finds nothing.
  func lose() throws {
    try? FileManager.default.removeItem(atPath: self.current)
    self.current = self.next()
    try FileManager.default.createDirectory(atPath: self.current, withIntermediateDirectories: true)
    for state in self.earlier { try FileManager.default.removeItem(atPath: state) }
    self.earlier = []
  }

  private func next() -> String {
    self.count += 1
    return "\(self.root)/\(self.count)"
  }

  /// Database and write-ahead log; the index of the log is made anew by who opens it.
  private func copy(of folder: String) throws -> String {
    let copy = self.next()
    try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: true)
    for name in try FileManager.default.contentsOfDirectory(atPath: folder)
    where name.hasSuffix(".sqlite") || name.hasSuffix(".sqlite-wal") {
      try FileManager.default.copyItem(atPath: "\(folder)/\(name)", toPath: "\(copy)/\(name)")
    }
    return copy
  }

  private var generator: Generator {
    get { Generator(draw: self.random) }
    set {}
  }

  private struct Generator: RandomNumberGenerator {
    let draw: () -> UInt64
    mutating func next() -> UInt64 { self.draw() }
  }
}
