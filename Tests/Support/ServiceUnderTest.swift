import Foundation
import Synchronization

/// One of the real executables, run as a process of its own and gone after the test.
public final class ServiceUnderTest: Sendable {
  public struct Failure: Error, CustomStringConvertible {
    public var description: String
    /// Exit status of a process that ended instead of getting ready.
    public var status: Int32?
  }

  private let process: Mutex<Process>
  /// By name, from the READY line: "rpc", "publications" and so on.
  public let endpoints: [String: String]

  /// Starts and waits until it is ready.
  /// - Parameters:
  ///   - configuration: file of settings; nil for none.
  ///   - settings: by full key; they win.
  /// - Throws: ``Failure`` with what it wrote where it ends instead.
  public init(_ name: String, configuration: String? = nil, settings: [String: String]) async throws {
    let folder = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
    let executable = folder.appending(path: name)
    guard FileManager.default.isExecutableFile(atPath: executable.path) else {
      throw Failure(
        description: "\(executable.path) is missing; build it with: swift build --product \(name)")
    }
    let process = Process()
    process.executableURL = executable
    process.arguments =
      (configuration.map { ["--config", $0] } ?? []) + ["--set", "process.parent=\(getpid())"]
      + settings.sorted { $0.key < $1.key }.flatMap {
        ["--set", "\($0.key)=\($0.value)"]
      }
    let output = Pipe()
    let log = URL(filePath: "/tmp/fl-\(name)-\(UInt32.random(in: 0 ... .max)).log")
    _ = FileManager.default.createFile(atPath: log.path, contents: nil)
    defer { try? FileManager.default.removeItem(at: log) }
    process.standardOutput = output
    process.standardError = try FileHandle(forWritingTo: log)
    try process.run()
    let line = await Self.firstLine(of: output.fileHandleForReading)
    guard line.hasPrefix("READY ") else {
      process.waitUntilExit()
      throw Failure(
        description: (try? String(contentsOf: log, encoding: .utf8)) ?? "", status: process.terminationStatus)
    }
    var endpoints: [String: String] = [:]
    for word in line.split(separator: " ").dropFirst(2) {
      let parts = word.split(separator: "=", maxSplits: 1)
      if parts.count == 2 { endpoints[String(parts[0])] = String(parts[1]) }
    }
    self.endpoints = endpoints
    self.process = Mutex(process)
  }

  /// Ends with the process's output where that comes first.
  private static func firstLine(of handle: FileHandle) async -> String {
    await withCheckedContinuation { continuation in
      // Reading blocks: on a thread of its own, not one of the Swift pool.
      Thread.detachNewThread {
        var bytes: [UInt8] = []
        while let data = try? handle.read(upToCount: 1), let byte = data.first, byte != UInt8(ascii: "\n") {
          bytes.append(byte)
        }
        continuation.resume(returning: String(decoding: bytes, as: UTF8.self))
      }
    }
  }

  /// `kill -9`.
  public func kill() {
    self.process.withLock { process in
      guard process.isRunning else { return }
      Foundation.kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
  }

  /// SIGSTOP: it hangs until ``resume()``.
  public func pause() throws { try self.send(SIGSTOP) }

  public func resume() throws { try self.send(SIGCONT) }

  private func send(_ signal: Int32) throws {
    try self.process.withLock { process in
      guard process.isRunning, Foundation.kill(process.processIdentifier, signal) == 0 else {
        throw Failure(description: "The process cannot be sent signal \(signal).")
      }
    }
  }

  /// Bytes of memory that it has, and had at most.
  public func memory() throws -> (now: Int, peak: Int) {
    let identifier = self.process.withLock { $0.processIdentifier }
    let status = try String(contentsOfFile: "/proc/\(identifier)/status", encoding: .utf8)
    func bytes(_ field: String) throws -> Int {
      let line = status.split(separator: "\n").first { $0.hasPrefix("\(field):") }
      guard let kilobytes = line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Int($0) })
      else { throw Failure(description: "/proc/\(identifier)/status has no \(field).") }
      return kilobytes << 10
    }
    return (try bytes("VmRSS"), try bytes("VmHWM"))
  }

  /// SIGTERM.
  /// - Returns: the exit status.
  public func terminate() -> Int32 {
    self.process.withLock { process in
      process.terminate()
      process.waitUntilExit()
      return process.terminationStatus
    }
  }

  deinit { self.kill() }
}

/// Waits until something holds.
/// - Throws: ``ServiceUnderTest/Failure`` after the limit.
public func eventually(
  _ what: String, within limit: Duration = .seconds(90), _ condition: () async throws -> Bool
) async throws {
  let end = ContinuousClock.now + limit
  while ContinuousClock.now < end {
    if try await condition() { return }
    try await Task.sleep(for: .milliseconds(50))
  }
  throw ServiceUnderTest.Failure(description: "still not so after \(limit): \(what)")
}
