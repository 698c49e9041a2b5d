public import GRPCCore
import Schemas

extension ServiceConfig {
  /// Calls that may be made twice (`idempotency_level` in the protos) are made again when a server goes away meanwhile.
  ///
  /// At most five times in all, after 0.2, 0.4, 0.8 and 1.6 s or so, and never past the call's deadline: long enough for a
  /// service that its supervisor starts again. What finds no connection waits for one besides.
  public static var retryingIdempotentMethods: ServiceConfig {
    let policy = RetryPolicy(
      maxAttempts: 5, initialBackoff: .milliseconds(200), maxBackoff: .seconds(2), backoffMultiplier: 2,
      retryableStatusCodes: [.unavailable])
    let names = SchemaRegistry.idempotentMethods.flatMap { service, methods in
      methods.map { MethodConfig.Name(service: service, method: $0) }
    }
    return ServiceConfig(methodConfig: [MethodConfig(names: names, executionPolicy: .retry(policy))])
  }
}
