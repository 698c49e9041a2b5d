import Synchronization

/// The tasks that the control program can do, as it said last.
package final class OfferedTasks: Sendable {
  /// Tasks that a program may name.
  package static let maximumCount = 1_000

  private let names = Mutex<[String]>([])

  package init() {}

  /// Sorted; empty where the program never said.
  package var all: [String] { self.names.withLock { $0 } }

  /// Takes a program's word; an empty list says nothing.
  /// - Throws: ``RobotError`` `.invalidRequest` for more tasks, or longer ones, than an agent remembers.
  package func remember(_ tasks: [String]) throws(RobotError) {
    guard !tasks.isEmpty else { return }
    guard tasks.count <= Self.maximumCount,
      tasks.allSatisfy({ (1...WorkQueue.Limits.textBytes).contains($0.utf8.count) })
    else {
      throw RobotError(
        .invalidRequest,
        "A program names at most \(Self.maximumCount) tasks of 1 to \(WorkQueue.Limits.textBytes) bytes each."
      )
    }
    self.names.withLock { names in
      // Asked with every call for work: sorted only where it is news.
      if names.count != tasks.count || names != tasks { names = tasks.sorted() }
    }
  }

  /// - Throws: ``RobotError`` `.invalidRequest` for a task that the program does not offer.
  package func check(_ task: String) throws(RobotError) {
    let all = self.all
    guard !all.isEmpty, !all.contains(task) else { return }
    throw RobotError(
      .invalidRequest,
      "The robot's program has no task '\(task.prefix(64))'; it offers \(all.joined(separator: ", ")).")
  }
}
