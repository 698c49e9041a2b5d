import Schemas
import Synchronization
import Testing

@testable import ServiceKit

@Suite("Vitals")
struct VitalsTests {
  @Test func `a service serves while no part is broken`() {
    let vitals = Vitals()
    let told = Mutex<[Bool]>([])
    vitals.observe { isServing in told.withLock { $0.append(isServing) } }
    vitals.recover("database")
    vitals.fail("trial log", "disk full")
    vitals.fail("trial log", "still full")
    vitals.fail("catalog", "locked")
    #expect(vitals.broken.map { "\($0.part): \($0.reason)" } == ["catalog: locked", "trial log: still full"])
    vitals.recover("trial log")
    vitals.recover("catalog")
    #expect(vitals.broken.isEmpty)
    #expect(told.withLock { $0 } == [true, false, true])
  }
}
