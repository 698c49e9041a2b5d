package import ArgumentParser
import Foundation

/// `fleet loop`: the whole loop on simulated robots.
package struct Loop: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "loop",
    abstract:
      "Run the whole loop on simulated robots: demonstrate, train, release, compare, transfer, take back.")

  @Flag(help: "2 tasks and small numbers.")
  var quick = false
  @Option(help: "Write the summary to this file.")
  var json: String?
  @Option(help: "Folder of the fleet; a fresh temporary one where none is given.")
  var data: String?
  @Flag(help: "Keep the temporary folder.")
  var keep = false

  package init() {}

  package func validate() throws {
    guard let json else { return }
    // Better now than after the loop.
    let folder = URL(filePath: json).deletingLastPathComponent().path
    guard FileManager.default.isWritableFile(atPath: folder) else {
      throw ValidationError("--json \(json): the folder \(folder) is missing or cannot be written.")
    }
  }

  package func run() async throws {
    let plan = self.quick ? LoopPlan.quick : LoopPlan.full
    let temporary = FileManager.default.temporaryDirectory.appending(
      path: "fleetloop-data-\(UUID().uuidString)")
    let folder = self.data ?? temporary.path
    if let data = self.data, let names = try? FileManager.default.contentsOfDirectory(atPath: data),
      !names.isEmpty
    {
      throw FleetError(
        .usage, "\(data) is not empty. `fleet loop` counts from nothing: name an empty folder, or none.")
    }
    let progress = ProgressReport()
    let fleet = try LocalFleet(data: folder, robots: plan.robots)
    progress.line("data: \(folder)")
    do {
      let json = self.json
      let summary = try await FleetSession.run(fleet, progress: progress) { supervisor in
        try await withThrowingTaskGroup(of: LoopSummary?.self) { group in
          // A process that crashes meanwhile is started again, as it would be in a real fleet.
          group.addTask {
            try await supervisor.watch()
            return nil
          }
          group.addTask { try await Self.run(plan, on: fleet, json: json, progress: progress) }
          defer { group.cancelAll() }
          while let summary = try await group.next() {
            if let summary { return summary }
          }
          throw CancellationError()
        }
      }
      if let json { try summary.write(to: json) }
      try Listing.show(summary.render(), json: nil)
      guard summary.trials.lost == 0, summary.trials.duplicates == 0 else {
        throw FleetError(.childFailed, "Trials were lost or stored twice; the data is kept in \(folder).")
      }
      if self.data == nil, !self.keep { try? FileManager.default.removeItem(at: temporary) }
    } catch {
      progress.line("data and logs are kept in \(folder)")
      if error is CancellationError { throw FleetError(.childFailed, "Interrupted.") }
      throw error
    }
  }

  private static func run(
    _ plan: LoopPlan, on fleet: LocalFleet, json: String?, progress: ProgressReport
  ) async throws -> LoopSummary {
    try await FleetClients.with(
      endpoints: fleet.layout.endpoints,
      robots: Dictionary(uniqueKeysWithValues: plan.robots.map { ($0, fleet.layout.robotRPC($0)) })
    ) { clients in
      let runner = LoopRunner(plan: plan, clients: clients, progress: progress)
      do {
        return try await runner.run()
      } catch {
        // What was reached is worth reading, most of all when something failed.
        if let json { try? runner.summary.write(to: json) }
        throw error
      }
    }
  }
}
