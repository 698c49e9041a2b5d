import CHeap
import Foundation
import ServiceLifecycle

/// Gives memory that the process does not use back to the machine.
///
/// malloc keeps what was freed: after a burst, many readers at once say, a service would hold for ever what it needed for a
/// second. A look costs microseconds, giving back about 0.1 ms for each MB.
struct HeapTrimming: Service {
  private static let interval: Duration = .seconds(5)

  func run() async throws {
    try await cancelWhenGracefulShutdown {
      var decision = Decision(resident: Self.residentBytes)
      while true {
        try await Task.sleep(for: Self.interval)
        let (resident, unused) = Self.now
        if decision.isDue(unused: unused, resident: resident) { Self.trim(&decision) }
      }
    }
  }

  static func trim(_ decision: inout Decision) {
    heap_trim()
    decision.trimmed(resident: Self.residentBytes)
  }

  /// Bytes that the process has, and those that malloc keeps.
  static var now: (resident: Int, unused: Int) { (Self.residentBytes, heap_unused()) }

  static var residentBytes: Int {
    // Second number of statm: pages.
    let words = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ")
    return (words.flatMap { $0.count > 1 ? Int($0[1]) : nil } ?? 0) * sysconf(Int32(_SC_PAGESIZE))
  }

  /// When it is worth while: what is free at two looks in a row is used by nobody.
  struct Decision {
    static let worthwhile = 32 << 20

    private var base: Int
    private var wasUnused = false

    init(resident: Int) { self.base = resident }

    /// - Parameters:
    ///   - unused: bytes that malloc keeps, whether or not their pages were given back.
    ///   - resident: bytes of memory that the process has.
    mutating func isDue(unused: Int, resident: Int) -> Bool {
      self.base = min(self.base, resident)
      let isUnused = unused >= Self.worthwhile && resident - self.base >= Self.worthwhile
      defer { self.wasUnused = isUnused }
      return isUnused && self.wasUnused
    }

    mutating func trimmed(resident: Int) {
      self.base = resident
      self.wasUnused = false
    }
  }
}
