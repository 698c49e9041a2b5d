import CHeap
import Foundation
import ServiceLifecycle

/// Gives memory that the process does not use back to the machine.
///
/// malloc keeps what was freed: after a burst, many readers at once say, a service would hold for ever what it needed for a
/// second. A look costs microseconds, giving back about 0.1 ms for each MB.
struct HeapTrimming: Service {
  private static let interval: Duration = .seconds(5)
  /// Blocks that are larger go back when they are freed.
  private static let largestKept: Int32 = 4 << 20

  /// Call it before there is much: malloc keeps no large blocks from now on. Costs page faults where they are made again at once.
  static func keepNoLargeBlocks() { heap_bound(Self.largestKept) }

  func run() async throws {
    try await cancelWhenGracefulShutdown {
      var decision = Decision(unused: Self.unusedBytes)
      while true {
        try await Task.sleep(for: Self.interval)
        if decision.isDue(unused: Self.unusedBytes) { Self.trim(&decision) }
      }
    }
  }

  static func trim(_ decision: inout Decision) {
    heap_trim()
    decision.trimmed(unused: Self.unusedBytes)
  }

  /// Resident memory that malloc has not given out: what it keeps, and what is none of its own, such as code and stacks.
  static var unusedBytes: Int { Self.residentBytes - heap_used() }

  static var residentBytes: Int {
    // Second number of statm: pages.
    let words = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ")
    return (words.flatMap { $0.count > 1 ? Int($0[1]) : nil } ?? 0) * sysconf(Int32(_SC_PAGESIZE))
  }

  /// When it is worth while: what lies unused at two looks in a row is needed by nobody.
  struct Decision {
    static let worthwhile = 32 << 20

    /// What cannot be given back: the least that was ever unused since the last time.
    private var base: Int
    private var wasUnused = false

    init(unused: Int) { self.base = unused }

    mutating func isDue(unused: Int) -> Bool {
      self.base = min(self.base, unused)
      let isUnused = unused - self.base >= Self.worthwhile
      defer { self.wasUnused = isUnused }
      return isUnused && self.wasUnused
    }

    mutating func trimmed(unused: Int) {
      self.base = unused
      self.wasUnused = false
    }
  }
}
