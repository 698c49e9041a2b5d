import Dispatch
public import Foundation
import Schemas
import Storage
import Synchronization

/// The trial log and its catalog as one: trials go in once and are durable when told so, and come out again.
///
/// The disk has a thread of its own. Trials that arrive while it syncs wait for the next sync together.
public final class TrialStore: Sendable {
  public struct Configuration: Sendable {
    public var log = TrialLog.Configuration()
    /// Trials that wait for the disk at most; more are refused until it catches up.
    public var maximumWaiting = 256
    /// Trials of one sync at most.
    public var maximumGroup = 64
    public var limits = QualityLimits()
    public init() {}
  }

  /// What became of a trial.
  public enum Verdict: Sendable, Hashable {
    case stored
    case quarantined([QualityReason])
    case duplicate
  }

  private struct Waiting {
    var trial: TrialRecord
    var reasons: [QualityReason]
    var continuation: CheckedContinuation<Verdict, any Error>
  }

  private struct State {
    var waiting: [Waiting] = []
    var draining = false
  }

  public let catalog: TrialCatalog
  private let configuration: Configuration
  private let folder: URL
  private let lock: FolderLock
  private let queue = DispatchQueue(label: "fleetloop.trial-store")
  /// Checks decode video; they must hold up neither the disk nor the cooperative pool.
  private let checks = DispatchQueue(label: "fleetloop.trial-checks", attributes: .concurrent)
  private let state = Mutex(State())
  // Only the queue above touches the log.
  private nonisolated(unsafe) let log: TrialLog

  /// Opens a store and brings its catalog up to the log's end.
  /// - Parameter folder: holds `log/` and `catalog.sqlite`; made where it is missing.
  /// - Throws: ``TrialsError``; `StorageError` `.inUse` where another process owns the folder.
  public init(folder: URL, configuration: Configuration = .init()) throws {
    self.configuration = configuration
    self.folder = folder
    self.lock = try FolderLock(folder: folder.path, owner: "ingest")
    self.log = try TrialLog(folder: folder.appending(path: "log"), configuration: configuration.log)
    self.catalog = try TrialCatalog(path: folder.appending(path: "catalog.sqlite").path)
    try self.catchUp()
  }

  /// Adds to the catalog what the log holds behind the catalog's last trial of each file.
  private func catchUp() throws {
    let known = try self.catalog.knownEnds()
    for file in try TrialLog.fileNames(in: self.folder.appending(path: "log")) {
      let entries = try self.log.trials(in: file, from: known[file] ?? 0)
      for group in entries.chunked(into: 100) {
        try self.catalog.add(
          group.map {
            ($0.trial, $0.position, QualityCheck.reasons(for: $0.trial, limits: self.configuration.limits))
          },
          storedUnixNanos: UnixTime.now)
      }
    }
  }

  // MARK: In

  /// Stores a trial, unless it is stored already. Returns once it is durable.
  /// - Throws: ``TrialsError``; `.diskFull` and `.fileSystem` mean that nothing was stored and the robot should keep its copy.
  public func store(_ trial: TrialRecord) async throws -> Verdict {
    let limits = self.configuration.limits
    if try self.catalog.contains(robot: trial.robot, trialID: trial.trialID) { return .duplicate }
    let reasons = await withCheckedContinuation { continuation in
      self.checks.async { continuation.resume(returning: QualityCheck.reasons(for: trial, limits: limits)) }
    }
    return try await withCheckedThrowingContinuation { continuation in
      let refused = self.state.withLock { state -> Bool in
        guard state.waiting.count < self.configuration.maximumWaiting else { return true }
        state.waiting.append(Waiting(trial: trial, reasons: reasons, continuation: continuation))
        if !state.draining {
          state.draining = true
          self.queue.async { self.drain() }
        }
        return false
      }
      if refused {
        continuation.resume(
          throwing: TrialsError(
            .fileSystem,
            "\(self.configuration.maximumWaiting) trials wait for the disk; send this one again later."))
      }
    }
  }

  private func drain() {
    while true {
      let group = self.state.withLock { state -> [Waiting] in
        let group = Array(state.waiting.prefix(self.configuration.maximumGroup))
        state.waiting.removeFirst(group.count)
        if group.isEmpty { state.draining = false }
        return group
      }
      if group.isEmpty { return }
      self.commit(group)
    }
  }

  private func commit(_ group: [Waiting]) {
    do {
      var fresh: [Waiting] = []
      var keys: Set<String> = []
      var duplicates: [Waiting] = []
      for waiting in group {
        let isNew = keys.insert("\(waiting.trial.robot)/\(waiting.trial.trialID)").inserted
        let isKnown = try self.catalog.contains(robot: waiting.trial.robot, trialID: waiting.trial.trialID)
        if isNew, !isKnown { fresh.append(waiting) } else { duplicates.append(waiting) }
      }
      if !fresh.isEmpty {
        let positions = try self.log.append(fresh.map(\.trial))
        try self.catalog.add(
          zip(fresh, positions).map { ($0.trial, $1, $0.reasons) }, storedUnixNanos: UnixTime.now)
      }
      for waiting in fresh {
        waiting.continuation.resume(
          returning: waiting.reasons.isEmpty ? .stored : .quarantined(waiting.reasons))
      }
      for waiting in duplicates { waiting.continuation.resume(returning: .duplicate) }
    } catch {
      for waiting in group { waiting.continuation.resume(throwing: error) }
    }
  }

  // MARK: Out

  /// The trial at a position.
  public func read(_ position: LogPosition) async throws -> TrialRecord {
    try await self.onQueue { try self.log.read(position) }
  }

  /// Bytes and files of the log, free bytes beside it, and trials that stand in it more than once.
  public func usage() async throws -> (bytes: Int, files: Int, free: Int, duplicates: Int) {
    let rows = try self.catalog.totals()
    return try await self.onQueue {
      let usage = try self.log.usage()
      let files = try TrialLog.fileNames(in: self.folder.appending(path: "log"))
      let inLog = try files.reduce(0) { try $0 + self.log.count(in: $1) }
      let attributes = try FileManager.default.attributesOfFileSystem(forPath: self.folder.path)
      let inCatalog = rows.stored + rows.quarantined.values.reduce(0, +)
      return (usage.bytes, usage.files, (attributes[.systemFreeSize] as? Int) ?? 0, max(0, inLog - inCatalog))
    }
  }

  private func onQueue<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws
    -> Result
  {
    try await withCheckedThrowingContinuation { continuation in
      self.queue.async { continuation.resume(with: Swift.Result { try body() }) }
    }
  }
}

/// Time as the schemas write it.
public enum UnixTime {
  /// Nanoseconds since 1970, UTC.
  public static var now: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}

extension Array {
  func chunked(into size: Int) -> [[Element]] {
    stride(from: 0, to: self.count, by: size).map { Array(self[$0..<Swift.min($0 + size, self.count)]) }
  }
}
