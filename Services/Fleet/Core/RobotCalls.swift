import GRPCCore

/// Asking several robots at once: one that does not answer holds up no other, while there are lines for all.
extension FleetClients {
  typealias Robot = RobotLines.Robot

  /// What became of the question to one robot.
  struct RobotAnswer<Answer: Sendable>: Sendable {
    var robot: String
    var result: Result<Answer, any Error>

    var answer: Answer? { try? self.result.get() }

    /// Whether it may answer if it is asked again.
    var isAway: Bool {
      guard case .failure(let error as RPCError) = self.result else { return false }
      return error.isAway
    }

    /// Why there is no answer, for people; nil where there is one.
    var failure: String? {
      guard case .failure(let error) = self.result else { return nil }
      guard let status = error as? RPCError else { return "\(error)" }
      return status.isAway ? "does not answer" : status.message
    }
  }

  /// Asks robots by name, all at the same time.
  /// - Returns: in the order of the names; for a name that has no address, that it has none.
  func ask<Answer: Sendable>(
    robots names: [String], _ call: @Sendable @escaping (Robot) async throws -> Answer
  ) async -> [RobotAnswer<Answer>] {
    await withTaskGroup(of: (Int, RobotAnswer<Answer>).self) { group in
      for (index, name) in names.enumerated() {
        group.addTask {
          do {
            return (index, RobotAnswer(robot: name, result: .success(try await self.robots.ask(name, call))))
          } catch {
            return (index, RobotAnswer(robot: name, result: .failure(error)))
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
    }
  }
}
