import Bus
import GRPCCore
import Schemas
import ServiceKit

/// One question about a service's health, answered or not within its deadline.
enum ServiceProbe {
  /// Time for an answer.
  static let patience: Duration = .seconds(2)

  static func ask(_ client: GRPCClient<ZeroMQClientTransport>) async -> HealthAnswer {
    do {
      let answer = try await Health.Client(wrapping: client).check(.init(), options: .within(Self.patience))
      guard answer.status != .serving else { return .serving }
    } catch let error as RPCError where error.code == .deadlineExceeded {
      return .none("no answer within \(Self.patience)")
    } catch let error as RPCError where error.code == .unavailable {
      return .none("no connection")
    } catch {
      return .none("\(error)")
    }
    // What is broken is known to those who can say it; that it is broken is enough.
    let parts = try? await MetricsService.Client(wrapping: client).getMetrics(
      .init(), options: .within(Self.patience)
    ).brokenParts
    let reasons = parts?.map { "\($0.part): \($0.reason)" } ?? []
    return .notServing(reasons.isEmpty ? "it says NOT_SERVING" : reasons.joined(separator: "; "))
  }
}
