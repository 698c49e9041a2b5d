import Testing

@testable import ServiceKit

@Suite struct HeapTrimmingTests {
  private let megabyte = 1 << 20

  @Test func `what lies unused at two looks in a row is given back, and what cannot be is let be`() {
    var decision = HeapTrimming.Decision(unused: 50 * self.megabyte)
    func looks(_ unused: Int...) -> [Bool] { unused.map { decision.isDue(unused: $0 * self.megabyte) } }
    #expect(looks(60, 160) == [false, false], "a moment ago it was used, and may be again")
    #expect(looks(60, 160, 160) == [false, false, true])
    // A library of its own keeps 100 MB.
    decision.trimmed(unused: 150 * self.megabyte)
    #expect(looks(150, 160, 150) == [false, false, false])
    // What was given back is used, and then not.
    #expect(looks(100, 140, 140) == [false, false, true])
  }

  @Test func `what is given back while others still need theirs leaves nothing behind for ever`() {
    var decision = HeapTrimming.Decision(unused: 50 * self.megabyte)
    // 300 MB in use; a trim finds little.
    decision.trimmed(unused: 90 * self.megabyte)
    let isDue = [90, 200, 200].map { decision.isDue(unused: $0 * self.megabyte) }
    #expect(isDue == [false, false, true])
  }

  @Test func `what a burst left is resident no more`() async {
    await #expect(processExitsWith: .success) {
      // Small enough for malloc's arenas; the last one keeps the top of the heap from shrinking by itself.
      var decision = HeapTrimming.Decision(unused: HeapTrimming.unusedBytes)
      var blocks = (0..<1_600).map { _ in [UInt8](repeating: 1, count: 64 << 10) }
      let last = [UInt8](repeating: 1, count: 64 << 10)
      let full = HeapTrimming.residentBytes
      precondition(!decision.isDue(unused: HeapTrimming.unusedBytes))
      precondition(!decision.isDue(unused: HeapTrimming.unusedBytes), "it is in use")
      blocks = []
      precondition(HeapTrimming.residentBytes > full - (20 << 20), "malloc kept it")
      precondition(!decision.isDue(unused: HeapTrimming.unusedBytes))
      precondition(decision.isDue(unused: HeapTrimming.unusedBytes))
      HeapTrimming.trim(&decision)
      precondition(HeapTrimming.residentBytes < full - (80 << 20))
      precondition(last.count + blocks.count > 0)
    }
  }
}
