import Schemas
import Storage

/// Where the monitor's state is kept between two processes.
package protocol MonitorStoring: Sendable {
  /// - Throws: ``MonitorError`` `.storage`.
  func load() throws(MonitorError) -> MonitorState

  /// Makes what was stored the new state, and returns once it is durable.
  /// - Returns: whether anything had to be written.
  /// - Throws: ``MonitorError`` `.storage`; then nothing was changed.
  func save(_ new: MonitorState, replacing old: MonitorState) throws(MonitorError) -> Bool

  /// What was in the way of loading all, in sentences that say what to do.
  func damages() throws(MonitorError) -> [String]
}

/// The monitor's state on the disk: written before anything is answered or published.
package struct MonitorStore: MonitorStoring {
  private let records: RecordStore

  /// Opens or makes `folder/monitor.sqlite`.
  /// - Throws: ``MonitorError`` `.storage` where it cannot be used, `.busy` where another process owns it.
  package init(folder: String) throws(MonitorError) {
    self.records = try Self.told { () throws(StorageError) in
      try RecordStore(folder: folder, name: "monitor", tables: ["robot", "watch", "place", "alert"])
    }
  }

  package func load() throws(MonitorError) -> MonitorState {
    var state = MonitorState()
    let alerts: [String: Alert]
    (state.robots, state.watches, state.cursor, alerts) = try Self.told { () throws(StorageError) in
      (
        try self.records.records(in: "robot"), try self.records.records(in: "watch"),
        try self.records.records(TrialCursor.self, in: "place")["outcomes"],
        try self.records.records(in: "alert") { try Alert(serializedBytes: $0) }
      )
    }
    state.alerts = AlertBook(alerts: Array(alerts.values))
    return state
  }

  package func damages() throws(MonitorError) -> [String] {
    try Self.told { () throws(StorageError) in try self.records.damages().map(\.sentence) }
  }

  /// Writes what differs, in one transaction.
  package func save(_ new: MonitorState, replacing old: MonitorState) throws(MonitorError) -> Bool {
    var changes = RecordStore.Changes()
    do {
      try changes.replace(old.robots, with: new.robots, in: "robot")
      try changes.replace(old.watches, with: new.watches, in: "watch")
      if let cursor = new.cursor, cursor != old.cursor {
        try changes.put(cursor, id: "outcomes", in: "place")
      }
    } catch {
      throw MonitorError(.storage, "Cannot encode the monitor's state: \(error)")
    }
    let (before, after) = (old.alerts.alerts, new.alerts.alerts)
    for (id, alert) in after where before[id] != alert {
      changes.put(alert.serializedBytes(), id: id, in: "alert")
    }
    for id in before.keys where after[id] == nil { changes.delete(id, in: "alert") }
    let gathered = changes
    try Self.told { () throws(StorageError) in try self.records.apply(gathered) }
    return !gathered.isEmpty
  }

  private static func told<Result>(_ body: () throws(StorageError) -> Result) throws(MonitorError) -> Result {
    do {
      return try body()
    } catch {
      throw MonitorError(error.code == .inUse ? .busy : .storage, error.description)
    }
  }
}
