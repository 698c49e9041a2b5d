import SimulationKit
import Storage
import Testing

@Suite("SimulatedDisk")
struct DiskTests {
  /// A host with a folder `/d`, and one file in it that is durable.
  private func host(seed: UInt64 = 1) throws -> (SimulatedHost, HostLife) {
    let simulation = Simulation(seed: seed)
    let host = SimulatedHost("host", in: simulation)
    let life = host.boot()
    try life.disk.makeFolder("/d")
    let file = try life.disk.open("/d/kept", .create)
    try file.write([1, 2, 3], at: 0)
    try file.synchronize()
    try life.disk.synchronizeFolder("/d")
    return (host, life)
  }

  private func read(_ path: String, _ life: HostLife) throws -> [UInt8] {
    let file = try life.disk.open(path, .read)
    return try file.read(at: 0, count: try file.size())
  }

  @Test func `a killed process leaves what it wrote, synced or not`() throws {
    let (host, life) = try self.host()
    let file = try life.disk.open("/d/new", .create)
    try file.write([9], at: 0)
    host.die(.killed)
    let next = host.boot()
    #expect(try self.read("/d/new", next) == [9])
    #expect(try self.read("/d/kept", next) == [1, 2, 3])
  }

  @Test func `a power cut keeps what was synced and may take the rest, name or bytes`() throws {
    var outcomes: Set<[UInt8]?> = []
    for seed in 0..<100 as Range<UInt64> {
      let (host, life) = try self.host(seed: seed)
      let file = try life.disk.open("/d/new", .create)
      try file.write([9, 8], at: 0)
      let kept = try life.disk.open("/d/kept", .readWrite)
      try kept.write([7], at: 3)
      host.die(.powerCut)
      let next = host.boot()
      #expect(try self.read("/d/kept", next).prefix(3) == [1, 2, 3])
      outcomes.insert(try? self.read("/d/new", next))
    }
    // No name; a name without bytes; a torn write; all of it.
    #expect(outcomes.isSuperset(of: [nil, [], [9], [9, 8]]))
  }

  @Test func `a name is durable once its folder is synced, and bytes once their file is`() throws {
    for seed in 0..<100 as Range<UInt64> {
      let (host, life) = try self.host(seed: seed)
      try life.disk.makeFolder("/e")
      let file = try life.disk.open("/d/new", .create)
      try file.write([9], at: 0)
      try file.synchronize()
      try life.disk.move("/d/new", to: "/e/moved")
      try life.disk.remove("/d/kept")
      try life.disk.synchronizeFolder("/e")
      host.die(.powerCut)
      let next = host.boot()
      #expect(try self.read("/e/moved", next) == [9])
      #expect(try next.disk.size(of: "/d/new") == nil)
    }
  }

  @Test func `renames of two folders are whole: a name is in one of them`() throws {
    for seed in 0..<100 as Range<UInt64> {
      let (host, life) = try self.host(seed: seed)
      try life.disk.makeFolder("/e")
      try life.disk.move("/d/kept", to: "/e/kept")
      host.die(.powerCut)
      let next = host.boot()
      let places = try ["/d/kept", "/e/kept"].filter { try next.disk.size(of: $0) != nil }
      #expect(places.count == 1)
    }
  }

  @Test func `after a sync that failed, the next one succeeds and proves nothing`() throws {
    var isLost = false
    for seed in 0..<100 as Range<UInt64> {
      let (host, life) = try self.host(seed: seed)
      let file = try life.disk.open("/d/kept", .readWrite)
      try file.write([9], at: 0)
      host.platter.faults.synchronize = 1
      #expect(throws: StorageError.self) { try file.synchronize() }
      host.platter.faults.synchronize = 0
      try file.synchronize()
      host.die(.powerCut)
      if try self.read("/d/kept", host.boot()) == [1, 2, 3] { isLost = true }
    }
    #expect(isLost)
  }

  @Test func `a disk that is full takes a part and says so`() throws {
    let (host, life) = try self.host()
    host.platter.capacity = 10
    let file = try life.disk.open("/d/new", .create)
    #expect { try file.write([UInt8](repeating: 5, count: 20), at: 0) } throws: {
      ($0 as? StorageError)?.code == .diskFull
    }
    #expect(try file.size() <= 7)
    #expect(try life.disk.freeBytes(at: "/d") == UInt64(7 - (try file.size())))
  }

  @Test func `what a dead process does to its disk has no effect`() throws {
    let (host, life) = try self.host()
    let file = try life.disk.open("/d/kept", .readWrite)
    host.die(.killed)
    let next = host.boot()
    #expect(throws: StorageError.self) { try file.write([9], at: 0) }
    #expect(throws: StorageError.self) { try life.disk.remove("/d/kept") }
    #expect(try self.read("/d/kept", next) == [1, 2, 3])
  }

  @Test func `a folder that was made survives a power cut, also where the first try failed half way`() throws
  {
    for seed in 0..<100 as Range<UInt64> {
      let host = SimulatedHost("host", in: Simulation(seed: seed))
      // Folders are made and cannot be synced for a while: each try leaves one more, and ends.
      for _ in 0..<3 {
        let life = host.boot()
        host.platter.faults.synchronizeFolder = 0.5
        _ = try? life.disk.makeFolder("/a/b/c")
        host.die(.killed)
      }
      host.platter.faults.synchronizeFolder = 0
      let life = host.boot()
      try life.disk.makeFolder("/a/b/c")
      let file = try life.disk.open("/a/b/c/new", .create)
      try file.write([9], at: 0)
      try file.synchronize()
      try life.disk.synchronizeFolder("/a/b/c")
      host.die(.powerCut)
      #expect(try self.read("/a/b/c/new", host.boot()) == [9])
    }
  }

  @Test func `a folder alone does not survive a power cut, nor what is in it`() throws {
    var isLost = false
    for seed in 0..<100 as Range<UInt64> {
      let host = SimulatedHost("host", in: Simulation(seed: seed))
      let life = host.boot()
      try life.disk.addFolder("/a")
      let file = try life.disk.open("/a/new", .create)
      try file.synchronize()
      try life.disk.synchronizeFolder("/a")
      host.die(.powerCut)
      if try host.boot().disk.size(of: "/a/new") == nil { isLost = true }
    }
    #expect(isLost)
  }

  @Test func `what decays is read otherwise, or not at all, until it is written anew`() throws {
    let (host, life) = try self.host()
    host.platter.decay(.flippedBit, below: "/d")
    let flipped = try self.read("/d/kept", life)
    #expect(zip(flipped, [1, 2, 3]).reduce(0) { $0 + ($1.0 ^ $1.1).nonzeroBitCount } == 1)
    #expect(host.platter.files(below: "/d", durably: true).map(\.bytes) == [[1, 2, 3]])
    host.platter.decay(.badSector, below: "/d")
    #expect(throws: StorageError.self) { try self.read("/d/kept", life) }
    #expect(host.platter.isDamaged("/d/kept"))
    try life.disk.open("/d/kept", .readWrite).write([4, 5, 6], at: 0)
    #expect(try self.read("/d/kept", life) == [4, 5, 6])
    #expect(!host.platter.isDamaged("/d/kept"))
  }
}
