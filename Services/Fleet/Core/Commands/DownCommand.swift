package import ArgumentParser
import Foundation

/// `fleet down`: ends the fleet that `fleet up` started.
package struct Down: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(abstract: "End the fleet of a folder.")
  @OptionGroup var options: FleetOptions

  package init() {}

  package func run() async throws {
    try self.options.checkFolder()
    let layout = try FleetLayout(data: self.options.folder, robots: [])
    guard let process = FleetSession.runningProcess(layout) else {
      throw FleetError(.notRunning, "No fleet runs in \(layout.data.path).")
    }
    kill(process, SIGTERM)
    try await Deadline.wait(for: "the fleet's process \(process) to end", limit: .seconds(15)) {
      kill(process, 0) != 0
    }
    try Listing.show("fleet is down", json: self.options.json ? ["process": process] : nil)
  }
}
