import Foundation
import Storage
import Synchronization

/// One run of a fleet in the foreground: signals, the process file, and an end that leaves nothing behind.
package enum FleetSession {
  /// Starts a fleet, runs `body`, and ends every process, whatever happens.
  /// - Throws: what `body` throws; `CancellationError` after SIGINT or SIGTERM.
  package static func run<Result: Sendable>(
    _ fleet: LocalFleet, progress: ProgressReport,
    _ body: @escaping @Sendable (Supervisor) async throws -> Result
  ) async throws -> Result {
    try fleet.layout.makeFolders()
    let lock = try Self.lock(fleet.layout)
    defer { withExtendedLifetime(lock) {} }
    try Data("\(getpid())".utf8).write(to: fleet.layout.processFile, options: .atomic)
    let supervisor = Supervisor(layout: fleet.layout) { progress.line($0) }
    let work = Task {
      try await fleet.start(supervisor) { progress.line($0) }
      return try await body(supervisor)
    }
    let signals = SignalWatch([SIGINT, SIGTERM]) { work.cancel() }
    let result = await work.result
    await supervisor.stop()
    signals.end()
    try? FileManager.default.removeItem(at: fleet.layout.processFile)
    return try result.get()
  }

  /// One fleet owns a folder: the kernel decides which of two that come at once.
  private static func lock(_ layout: FleetLayout) throws -> FolderLock {
    do throws(StorageError) {
      return try FolderLock(folder: layout.data.path, owner: "fleet")
    } catch {
      guard error.code == .inUse else { throw error }
      let process = Self.runningProcess(layout).map { " (process \($0))" } ?? ""
      throw FleetError(
        .alreadyRunning,
        "A fleet runs in \(layout.data.path) already\(process). End it with: fleet down --data \(CommandHint.quoted(layout.data.path))"
      )
    }
  }

  /// The process of the `fleet up` of a folder; nil where none runs.
  package static func runningProcess(_ layout: FleetLayout) -> Int32? {
    guard let text = try? String(contentsOf: layout.processFile, encoding: .utf8), let process = Int32(text),
      process != getpid(), kill(process, 0) == 0
    else { return nil }
    // Numbers of processes are used again: it must be a fleet.
    let command = (try? String(contentsOfFile: "/proc/\(process)/comm", encoding: .utf8)) ?? ""
    return command.hasPrefix("fleet") ? process : nil
  }
}

/// Calls back on signals instead of dying of them.
final class SignalWatch: Sendable {
  // Dispatch sources are not Sendable; they are made here once and cancelled once, under the lock.
  private let sources: Mutex<[any DispatchSourceSignal]>

  init(_ signals: [Int32], _ action: @escaping @Sendable () -> Void) {
    var made: [any DispatchSourceSignal] = []
    for number in signals {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler(handler: action)
      source.resume()
      made.append(source)
    }
    nonisolated(unsafe) let sources = made  // handed over whole, see above
    self.sources = Mutex(sources)
  }

  func end() { self.sources.withLock { for source in $0 { source.cancel() } } }
}
