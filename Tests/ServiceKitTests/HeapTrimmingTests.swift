import Testing

@testable import ServiceKit

@Suite struct HeapTrimmingTests {
  private let megabyte = 1 << 20

  @Test func `what lies unused at two looks in a row is given back, once`() {
    var decision = HeapTrimming.Decision(resident: 50 * self.megabyte)
    func look(_ unused: Int, _ resident: Int) -> Bool {
      decision.isDue(unused: unused * self.megabyte, resident: resident * self.megabyte)
    }
    #expect(!look(1, 60))
    #expect(!look(100, 160), "a moment ago it was used, and may be again")
    #expect(!look(2, 160))
    #expect(!look(100, 160))
    #expect(look(100, 160))
    decision.trimmed(resident: 55 * self.megabyte)
    for _ in 0..<5 { #expect(!look(100, 60), "malloc still counts pages that are gone") }
    #expect(!look(150, 110))
    #expect(look(150, 110))
  }

  @Test func `growth that is used is nobody's to give back`() {
    var decision = HeapTrimming.Decision(resident: 0)
    for size in 0..<100 {
      let isDue = decision.isDue(unused: self.megabyte, resident: size * 100 * self.megabyte)
      #expect(!isDue)
    }
  }

  @Test func `what a burst left is resident no more`() async {
    await #expect(processExitsWith: .success) {
      // Small enough for malloc's arenas; the last one keeps the top of the heap from shrinking by itself.
      var blocks = (0..<1_600).map { _ in [UInt8](repeating: 1, count: 64 << 10) }
      let last = [UInt8](repeating: 1, count: 64 << 10)
      let full = HeapTrimming.residentBytes
      blocks = []
      var decision = HeapTrimming.Decision(resident: full - (100 << 20))
      let (resident, unused) = HeapTrimming.now
      precondition(resident > full - (20 << 20), "malloc kept it")
      precondition(!decision.isDue(unused: unused, resident: resident))
      precondition(decision.isDue(unused: unused, resident: resident))
      HeapTrimming.trim(&decision)
      precondition(HeapTrimming.now.resident < full - (80 << 20))
      precondition(last.count + blocks.count > 0)
    }
  }
}
