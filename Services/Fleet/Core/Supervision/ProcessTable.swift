package import Foundation
import Storage

/// How the processes of a fleet on this machine are, as its supervisor last wrote it: `fleet status` reads it to tell a
/// process that crashed from one that hangs.
package struct ProcessTable: Codable, Sendable, Equatable {
  package struct Entry: Codable, Sendable, Equatable {
    package var name: String
    /// Its number while it runs; that of the last one where it is down.
    package var process: Int32
    package var isRunning: Bool
    /// When it was started last, or ended, in Unix seconds.
    package var since: Double
    /// How often it was started.
    package var starts: Int
    /// Of the last end, where it is down.
    package var exitStatus: Int32?
    /// When it is started again, in Unix seconds, where it is down.
    package var nextStart: Double?
    /// File of its standard error.
    package var log: String
  }

  /// Number of the supervisor itself.
  package var supervisor: Int32
  /// What tells it from a later process of its number, after a restart of the machine, say.
  package var supervisorStart: String?
  package var processes: [Entry]

  package init(supervisor: Int32 = getpid(), processes: [Entry]) {
    self.supervisor = supervisor
    self.supervisorStart = Self.start(of: supervisor)
    self.processes = processes
  }

  /// The machine's boot and the process's start since then, in ticks; nil where no such process runs.
  static func start(of process: Int32) -> String? {
    guard let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
      let boot = try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8),
      // Number, name in parentheses, and from there the third field and on; the start is the 22nd (proc(5)).
      let fields = status.split(separator: ")").last?.split(separator: " "), fields.count > 19
    else { return nil }
    return "\(boot.trimmingCharacters(in: .whitespacesAndNewlines)) \(fields[19])"
  }

  /// - Throws: `StorageError`.
  package func write(to file: URL) throws {
    try DurableFile.write(JSONEncoder().encode(self), to: file.path)
  }

  /// Nil where there is none, or where its supervisor has ended.
  package static func read(_ file: URL) -> ProcessTable? {
    guard let bytes = try? DurableFile.read(file.path, limit: 4 << 20),
      let table = try? JSONDecoder().decode(ProcessTable.self, from: Data(bytes)),
      let start = Self.start(of: table.supervisor), start == table.supervisorStart
    else { return nil }
    return table
  }
}
