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
  /// Earlier states, the latest last: what each file held, by name.
  private var earlier: [[String: Data]] = []
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
    self.earlier.append(try Self.files(of: self.current))
    if self.earlier.count > 4 { self.earlier.removeFirst() }
  }

  /// What the next life finds. Call it within the job in which the host dies.
  func survive(_ death: Death, keepsCommits: Bool) throws {
    let dead = self.current
    defer { try? FileManager.default.removeItem(atPath: dead) }
    if death == .powerCut, !keepsCommits, let state = self.earlier.randomElement(using: &self.generator) {
      self.current = try self.write(state)
    } else {
      self.current = try self.write(try Self.files(of: dead))
    }
  }

  /// The next life finds nothing.
  func lose() throws {
    try? FileManager.default.removeItem(atPath: self.current)
    self.current = self.next()
    try FileManager.default.createDirectory(atPath: self.current, withIntermediateDirectories: true)
    self.earlier = []
  }

  private func next() -> String {
    self.count += 1
    return "\(self.root)/\(self.count)"
  }

  /// Database and write-ahead log; the index of the log is made anew by who opens it.
  private static func files(of folder: String) throws -> [String: Data] {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
      .filter { $0.hasSuffix(".sqlite") || $0.hasSuffix(".sqlite-wal") }
    return Dictionary(
      uniqueKeysWithValues: try names.map { ($0, try Data(contentsOf: URL(filePath: "\(folder)/\($0)"))) })
  }

  private func write(_ files: [String: Data]) throws -> String {
    let folder = self.next()
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (name, bytes) in files { try bytes.write(to: URL(filePath: "\(folder)/\(name)")) }
    return folder
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
