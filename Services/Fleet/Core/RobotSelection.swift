import GRPCCore
import Schemas
import ServiceKit

/// Robots that a command is about.
enum RobotSelection: Sendable {
  case named([String])
  /// Those of the fleet's configuration, and those that the monitor has seen.
  case all

  /// Time that the monitor has to name robots.
  static let listing: Duration = .seconds(3)

  struct Answers<Answer: Sendable>: Sendable {
    /// In the order of the names: robots of the configuration first, then those that only the monitor knows.
    var answers: [Answer]
    /// Why nobody knows whether these are all; nil where it is known.
    var doubt: String?
  }

  /// Does something with every robot. Those that the configuration names are not kept waiting for the monitor, which may hang.
  /// - Parameter deed: with robots by name, in their order; one without an address is for it to tell.
  /// - Throws: ``FleetError`` `.refused` where there is no robot at all.
  func each<Answer: Sendable>(
    _ clients: FleetClients, _ deed: @Sendable ([String]) async -> [Answer]
  ) async throws(FleetError) -> Answers<Answer> {
    guard case .all = self else {
      guard case .named(let names) = self else { return Answers(answers: []) }
      return Answers(answers: await deed(names))
    }
    async let listing = Self.listed(by: clients)
    let own = clients.robotNames
    let answers = own.isEmpty ? [] : await deed(own)
    let (listed, doubt) = await listing
    let others = Set(listed).subtracting(own).sorted()
    guard !(own.isEmpty && others.isEmpty) else {
      throw FleetError(
        .refused,
        "No robot is known: fleet.robots in the fleet's config.json names none, and "
          + (doubt ?? "the monitor has seen none."))
    }
    return Answers(answers: answers + (others.isEmpty ? [] : await deed(others)), doubt: doubt)
  }

  private static func listed(by clients: FleetClients) async -> (robots: [String], doubt: String?) {
    do {
      let rows = try await clients.monitor.listRobots(.init(), options: .within(Self.listing)).robots
      return (rows.map(\.robot), nil)
    } catch {
      let status = error as? RPCError
      let why = status.map { $0.isAway ? "does not answer" : "says: \($0.message)" } ?? "says: \(error)"
      return ([], "the monitor \(why): robots that only it knows are not among these.")
    }
  }
}
