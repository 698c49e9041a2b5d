package import ArgumentParser
import Foundation
import Schemas
import ServiceKit

/// `fleet bench`.
package struct Bench: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Measure a fleet on this machine.", subcommands: [Soak.self])
  package init() {}

  /// `fleet bench soak`: memory of every service under a steady load.
  struct Soak: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Run synthetic robots at a steady rate and compare every process's memory before and after.",
      discussion: "Half of the trials demonstrate, the other half act with a released model.")
    @Option(help: "Minutes of load.") var minutes: Double = 10
    @Option(help: "Trials a minute, all robots together.") var rate: Int = 200
    @Option(help: "Number of robots.") var robots: Int = 4
    @Flag(help: "Print JSON.") var json = false

    struct Row: Encodable, Sendable {
      var process: String
      var beforeMegabytes, afterMegabytes: Double
    }

    func validate() throws {
      guard self.minutes > 0, self.minutes <= 600, self.rate > 0, self.rate <= 10_000,
        (1...100).contains(self.robots)
      else { throw ValidationError("--minutes is 0 … 600, --rate 1 … 10000, --robots 1 … 100.") }
    }

    func run() async throws {
      let names = (0..<self.robots).map { "robot-\($0 + 1)" }
      let folder = FileManager.default.temporaryDirectory.appending(
        path: "fleetloop-soak-\(UUID().uuidString)")
      defer { try? FileManager.default.removeItem(at: folder) }
      let fleet = try LocalFleet(data: folder.path, robots: names, simulator: "synthetic")
      let progress = ProgressReport()
      let (minutes, rate) = (self.minutes, self.rate)
      let rows = try await FleetSession.run(fleet, progress: progress) { supervisor in
        try await FleetClients.with(
          endpoints: fleet.layout.endpoints,
          robots: Dictionary(uniqueKeysWithValues: names.map { ($0, fleet.layout.robotRPC($0)) })
        ) { clients in
          let dispatcher = WorkDispatcher(clients: clients, maximumSteps: 40, progress: progress)
          try await Self.releaseModel(clients, dispatcher, robots: names, progress: progress)
          // Memory that a process needs at all is there after some minutes of work: the first gigabyte of trials fills
          // the pools of allocators, SQLite and the video codec.
          let warmUp = min(3, minutes / 4)
          try await Self.load(dispatcher, robots: names, rate: rate, minutes: warmUp, label: "warm-up")
          let before = await Self.memory(supervisor)
          try await Self.load(dispatcher, robots: names, rate: rate, minutes: minutes, label: "soak")
          let after = await Self.memory(supervisor)
          let statistics = try await clients.ingest.getStatistics(.init(), options: .within(.seconds(30)))
          progress.line(
            "stored \(statistics.stored), quarantined \(statistics.quarantined), duplicates \(statistics.duplicates)"
          )
          return before.keys.sorted().map {
            Row(process: $0, beforeMegabytes: before[$0] ?? 0, afterMegabytes: after[$0] ?? 0)
          }
        }
      }
      try Listing(
        columns: ["process", "before MB", "after MB", "growth MB"],
        rows: rows.map { row in
          [row.beforeMegabytes, row.afterMegabytes, row.afterMegabytes - row.beforeMegabytes]
            .reduce(into: [row.process]) { $0.append(String(format: "%.1f", $1)) }
        }
      ).show(json: self.json ? rows : nil)
    }

    /// A model for the robots to act with: what it has learnt does not matter here, what it costs does.
    private static func releaseModel(
      _ clients: FleetClients, _ dispatcher: WorkDispatcher, robots: [String], progress: ProgressReport
    ) async throws {
      let units = (0..<8).map { WorkUnit(task: "synthetic", mode: .demonstration, seed: UInt64($0)) }
      _ = try await dispatcher.run("demonstrations", units: units, robots: robots)
      let models = ModelWork(clients: clients, progress: progress)
      _ = try await models.train(
        StartTrainingRequest(
          kind: .pretrain, version: "v1", query: TrialQuery(tasks: ["synthetic"], trainableOnly: true),
          policy: PolicyConfiguration(imageSize: 112),
          configuration: TrainingConfiguration(optimizerSteps: 20)))
      try await models.release("v1", to: robots, reason: "soak")
    }

    /// Has robots do `rate` trials a minute: a batch every 6 seconds, the next one not before its time.
    private static func load(
      _ dispatcher: WorkDispatcher, robots: [String], rate: Int, minutes: Double, label: String
    ) async throws {
      let start = ContinuousClock.now
      let batches = Int((minutes * 10).rounded(.up))
      for batch in 0..<batches {
        let units = (0..<max(1, rate / 10)).map { index in
          WorkUnit(
            task: "synthetic", mode: index.isMultiple(of: 2) ? .demonstration : .policy,
            seed: UInt64(batch * 10_000 + index))
        }
        _ = try await dispatcher.run("\(label) \(batch + 1)/\(batches)", units: units, robots: robots)
        try await Task.sleep(until: start + .seconds(6) * (batch + 1), clock: .continuous)
      }
    }

    /// Resident memory of each process, in megabytes.
    private static func memory(_ supervisor: Supervisor) async -> [String: Double] {
      var memory: [String: Double] = [:]
      for child in await supervisor.status {
        let text = (try? String(contentsOfFile: "/proc/\(child.process)/statm", encoding: .utf8)) ?? ""
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0
        memory[child.name] = pages * Double(sysconf(Int32(_SC_PAGESIZE))) / 1e6
      }
      return memory
    }
  }
}
