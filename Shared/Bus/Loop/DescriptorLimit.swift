import Foundation
import Logging
import Synchronization

/// How many descriptors this process may have: each connection takes one, each socket a few.
public enum DescriptorLimit {
  /// Raises the soft limit to the hard one, as far as anything here can use it.
  /// - Returns: descriptors that the process may have from now on.
  @discardableResult
  public static func raise() -> Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
    let wanted = min(limit.rlim_max, 1 << 20)
    if limit.rlim_cur < wanted {
      limit.rlim_cur = wanted
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    return Self.current.soft
  }

  /// The limits as they are.
  static var current: (soft: Int, hard: Int) {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return (Int(clamping: limit.rlim_cur), Int(clamping: limit.rlim_max))
  }

  /// What to do where descriptors ran out.
  static var advice: String {
    let (soft, hard) = Self.current
    return
      "This process may have \(soft) file descriptors (at most \(hard) without its administrator). Raise the limit (ulimit -n, LimitNOFILE of systemd, --ulimit of a container)."
  }

  static func isExhausted(_ error: Int32) -> Bool { error == EMFILE || error == ENFILE }

  private static let lastLog = Mutex<ContinuousClock.Instant?>(nil)
  private static let logger = Logger(label: "bus")

  /// Counts a connection that could not be accepted, and says so, at most every ten seconds.
  static func acceptFailed(_ error: Int32, at endpoint: Endpoint) {
    BusMetrics.count(.acceptFailed)
    let isDue = self.lastLog.withLock { last in
      guard last.map({ .now - $0 > .seconds(10) }) ?? true else { return false }
      last = .now
      return true
    }
    guard isDue else { return }
    self.logger.error(
      "connections cannot be accepted",
      metadata: [
        "endpoint": "\(endpoint)", "error": "\(String(cString: strerror(error)))",
        "advice": "\(Self.isExhausted(error) ? Self.advice : "")",
      ])
  }
}
