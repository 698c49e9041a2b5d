package import Foundation
import Synchronization

/// One process of the fleet: started, waited for until it says READY, ended.
package final class ChildProcess: Sendable {
  package let name: String
  private let process: Mutex<Process?>
  private let state = Mutex(State())
  private let executable: URL
  private let arguments: [String]
  private let environment: [String: String]
  package let log: URL

  private struct State {
    var endpoints: [String: String]?
    var ended: Int32?
    var starts = 0
    var output = ""
  }

  /// - Parameter log: file for standard error; a longer one than 16 MiB is begun anew at the next start.
  package init(
    name: String, executable: URL, arguments: [String], environment: [String: String] = [:], log: URL
  ) {
    self.name = name
    self.executable = executable
    self.arguments = arguments
    self.environment = environment
    self.log = log
    self.process = Mutex(nil)
  }

  /// Starts it.
  /// - Throws: ``FleetError`` `.missingProgram` or `.childFailed`.
  package func start() throws {
    guard FileManager.default.isExecutableFile(atPath: self.executable.path) else {
      throw FleetError(
        .missingProgram, "\(self.executable.path) is missing. Build it with: swift build -c release")
    }
    let process = Process()
    // `fleet` ignores these signals to hear them its own way, and a child would inherit that.
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["--default-signal=INT,TERM", self.executable.path] + self.arguments
    process.environment = ProcessInfo.processInfo.environment.merging(self.environment) { _, new in new }
    process.standardInput = FileHandle.nullDevice
    process.standardError = try self.openLog()
    let pipe = Pipe()
    process.standardOutput = pipe
    self.state.withLock {
      $0.ended = nil
      $0.endpoints = nil
      $0.output = ""
      $0.starts += 1
    }
    process.terminationHandler = { [weak self] process in
      self?.state.withLock { $0.ended = process.terminationStatus }
    }
    do {
      try process.run()
    } catch {
      throw FleetError(.childFailed, "Cannot start \(self.name) (\(self.executable.path)).", cause: error)
    }
    self.process.withLock { $0 = process }
    self.read(pipe.fileHandleForReading)
  }

  /// Words of the READY line, by name; nil before it.
  package var endpoints: [String: String]? { self.state.withLock { $0.endpoints } }
  /// Exit status once it ended.
  package var exitStatus: Int32? { self.state.withLock { $0.ended } }
  package var processIdentifier: Int32 { self.process.withLock { $0?.processIdentifier ?? 0 } }
  /// How often it was started.
  package var starts: Int { self.state.withLock { $0.starts } }

  /// Waits for the READY line.
  /// - Throws: ``FleetError`` `.childFailed` when it ended first, `.timedOut` after `limit`; both with the log's last lines.
  package func waitUntilReady(limit: Duration = .seconds(60)) async throws {
    let deadline = ContinuousClock.now + limit
    while self.endpoints == nil {
      if let status = self.exitStatus {
        throw FleetError(
          .childFailed, "\(self.name) ended with status \(status) before it was ready.\n\(self.logTail())")
      }
      guard ContinuousClock.now < deadline else {
        throw FleetError(.timedOut, "\(self.name) was not ready within \(limit).\n\(self.logTail())")
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  /// Asks it to end.
  package func terminate() {
    self.process.withLock { process in
      if let process, process.isRunning { process.terminate() }
    }
  }

  /// Ends it at once.
  package func kill() {
    self.process.withLock { process in
      if let process, process.isRunning { _ = Foundation.kill(process.processIdentifier, SIGKILL) }
    }
  }

  package var isRunning: Bool { self.process.withLock { $0?.isRunning ?? false } }

  /// The last lines of its log.
  package func logTail(lines: Int = 12) -> String {
    LogTail.lines(lines, of: self.log).joined(separator: "\n")
  }

  /// Reads what it says on a thread of its own, to the end. A `readabilityHandler` would be shorter, but it watches the
  /// descriptor by a dispatch source that may outlive it: another child that is being started holds a copy until it runs
  /// its program, so the watch is not gone when the descriptor closes, and its next event ends this process.
  private func read(_ output: FileHandle) {
    Thread.detachNewThread { [weak self] in
      var buffer = [UInt8](repeating: 0, count: 4096)
      while true {
        let count = Foundation.read(output.fileDescriptor, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return }
        self?.read(Data(buffer[..<count]))
      }
    }
  }

  private func read(_ data: Data) {
    self.state.withLock { state in
      guard state.endpoints == nil else { return }
      // READY is the first thing a service says; anything longer is no READY line.
      state.output = String((state.output + String(decoding: data, as: UTF8.self)).suffix(4096))
      guard
        let line = state.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
          .first(where: { $0.hasPrefix("READY ") })
      else { return }
      let words = line.split(separator: " ").dropFirst(2).map {
        $0.split(separator: "=", maxSplits: 1).map(String.init)
      }
      state.endpoints = Dictionary(
        words.filter { $0.count == 2 }.map { ($0[0], $0[1]) }, uniquingKeysWith: { first, _ in first })
    }
  }

  private func openLog() throws -> FileHandle {
    let manager = FileManager.default
    let size = (try? manager.attributesOfItem(atPath: self.log.path)[.size] as? Int) ?? 0
    if size > 16 << 20 {
      let previous = self.log.appendingPathExtension("previous")
      try? manager.removeItem(at: previous)
      try? manager.moveItem(at: self.log, to: previous)
    }
    if !manager.fileExists(atPath: self.log.path) {
      _ = manager.createFile(atPath: self.log.path, contents: nil)
    }
    do {
      let handle = try FileHandle(forWritingTo: self.log)
      try handle.seekToEnd()
      return handle
    } catch {
      throw FleetError(.fileSystem, "Cannot write the log \(self.log.path).", cause: error)
    }
  }
}

/// The end of a log.
enum LogTail {
  private static let bytes: UInt64 = 8_192

  /// The last lines of a file; none where it cannot be read.
  static func lines(_ count: Int, of log: URL) -> [String] {
    guard let handle = try? FileHandle(forReadingFrom: log) else { return [] }
    defer { try? handle.close() }
    let end = (try? handle.seekToEnd()) ?? 0
    try? handle.seek(toOffset: end > Self.bytes ? end - Self.bytes : 0)
    let text = String(decoding: (try? handle.readToEnd()) ?? Data(), as: UTF8.self)
    return text.split(separator: "\n").suffix(count).map(String.init)
  }
}
