public import Logging

/// Does something again and again until the task is cancelled.
///
/// A failure is logged when it begins and when it is over, not each time.
public func repeatedly(every interval: Duration, logger: Logger, _ body: () async throws -> Void) async {
  var isFailing = false
  while !Task.isCancelled {
    do {
      try await body()
      if isFailing { logger.notice("peer answers again") }
      isFailing = false
    } catch {
      if !isFailing, !Task.isCancelled {
        logger.warning("round failed; trying again", metadata: ["error": "\(error)"])
      }
      isFailing = true
    }
    try? await Task.sleep(for: interval)
  }
}
