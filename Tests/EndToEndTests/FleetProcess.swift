import Foundation
import Synchronization
import TestSupport

/// A running `fleet`, and the processes that it started.
final class FleetProcess: Sendable {
  private let process: Mutex<Process>
  private let folder: TemporaryFolder
  /// What its children's command lines name, and nobody else's.
  private let mark: String

  /// - Parameter arguments: among them `--data FOLDER`, by which its children are known.
  init(_ arguments: [String]) throws {
    self.folder = try TemporaryFolder()
    self.mark = arguments.firstIndex(of: "--data").map { arguments[$0 + 1] } ?? self.folder.path
    let process = Process()
    process.executableURL = URL(filePath: Program.built("fleet"))
    process.arguments = arguments
    let errors = "\(self.folder.path)/errors"
    _ = FileManager.default.createFile(atPath: errors, contents: nil)
    process.standardError = try FileHandle(forWritingTo: URL(filePath: errors))
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    self.process = Mutex(process)
  }

  deinit {
    self.process.withLock { process in
      guard process.isRunning else { return }
      // Its children follow it.
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
  }

  var errors: String { (try? String(contentsOfFile: "\(self.folder.path)/errors", encoding: .utf8)) ?? "" }

  /// Nil while it runs.
  var status: Int32? {
    self.process.withLock { $0.isRunning ? nil : $0.terminationStatus }
  }

  /// Whether a signal does not end it any more: it is caught.
  func takes(_ signal: Int32) -> Bool {
    let identifier = self.process.withLock { $0.processIdentifier }
    let status = (try? String(contentsOfFile: "/proc/\(identifier)/status", encoding: .utf8)) ?? ""
    let mask = status.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }?.dropFirst("SigCgt:".count)
    let bits = mask.flatMap { UInt64($0.trimmingCharacters(in: .whitespaces), radix: 16) } ?? 0
    return bits & (1 << UInt64(signal - 1)) != 0
  }

  func send(_ signal: Int32) {
    let identifier = self.process.withLock { $0.processIdentifier }
    kill(identifier, signal)
  }

  /// - Throws: ``TestSupport/ServiceUnderTest/Failure`` where it runs on.
  func end(within limit: Duration) async throws {
    try await eventually("fleet ends; it said: \(self.errors.suffix(2_000))", within: limit) {
      self.status != nil
    }
  }

  /// Processes whose parent is this one.
  var children: [Int32] {
    let parent = self.process.withLock { $0.processIdentifier }
    return Self.processes { identifier in
      let status = (try? String(contentsOfFile: "/proc/\(identifier)/status", encoding: .utf8)) ?? ""
      return status.contains("\nPPid:\t\(parent)\n")
    }
  }

  /// Those of them that run an executable of this name.
  func children(named name: String) -> [Int32] {
    self.children.filter { identifier in
      let running = (try? String(contentsOfFile: "/proc/\(identifier)/comm", encoding: .utf8)) ?? ""
      return running == name + "\n"
    }
  }

  /// Command lines of processes that still run with this fleet's folder.
  var leftBehind: [String] {
    Self.processes { Self.commandLine($0).contains(self.mark) }.map(Self.commandLine)
  }

  /// Whether a process runs; one that ended and that nobody has asked about yet does not.
  static func isThere(_ identifier: Int32) -> Bool { !Self.commandLine(identifier).isEmpty }

  private static func commandLine(_ identifier: Int32) -> String {
    let data = FileManager.default.contents(atPath: "/proc/\(identifier)/cmdline") ?? Data()
    return String(decoding: data, as: UTF8.self).replacing("\0", with: " ")
  }

  private static func processes(_ isWanted: (Int32) -> Bool) -> [Int32] {
    ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap(Int32.init)
      .filter(isWanted)
  }
}
