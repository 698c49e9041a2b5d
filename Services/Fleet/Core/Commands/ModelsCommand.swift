package import ArgumentParser
import Schemas
import ServiceKit

/// `fleet models`.
package struct Models: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(abstract: "List registered models, oldest first.")
  @OptionGroup var options: FleetOptions
  package init() {}

  struct Row: Encodable {
    var version, parent, snapshot: String
    var tasks: [String]
    var parameters, optimizerSteps: UInt64
    var trainSeconds: Double
    var metrics: [String: Double]
    var createdUnixNanos: Int64
  }

  package func run() async throws {
    let rows = try await self.options.withClients {
      try await $0.registry.listModels(.init(), options: .within(.seconds(10))).models
    }
    .map {
      Row(
        version: $0.version, parent: $0.parent, snapshot: $0.datasetSnapshot, tasks: $0.tasks,
        parameters: $0.parameters, optimizerSteps: $0.optimizerSteps, trainSeconds: $0.trainSeconds,
        metrics: $0.metrics, createdUnixNanos: $0.createdUnixNanos)
    }
    try Listing(
      columns: ["version", "parent", "tasks", "parameters", "steps", "seconds", "dataset", "created"],
      rows: rows.map {
        [
          $0.version, $0.parent.isEmpty ? "–" : $0.parent, "\($0.tasks.count)", "\($0.parameters)",
          "\($0.optimizerSteps)", "\(Int($0.trainSeconds))", $0.snapshot, TimeText.date($0.createdUnixNanos),
        ]
      }
    ).show(json: self.options.json ? rows : nil)
  }
}
