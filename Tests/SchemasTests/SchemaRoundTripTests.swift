import Foundation
import Synchronization
import Testing

@testable import Schemas

/// Serialized: one test counts what protobuf-c holds in this process.
@Suite("Schemas", .serialized)
struct SchemaRoundTripTests {
  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  private static func python(_ arguments: [String]) throws -> String {
    let process = Process()
    let environment = ProcessInfo.processInfo.environment
    process.executableURL = URL(
      filePath: environment["FLEETLOOP_PYTHON"] ?? Self.root.appending(path: ".python/bin/python").path)
    process.arguments = [Self.root.appending(path: "Tests/Interop/schema_peer.py").path] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    try #require(process.terminationStatus == 0, "schema_peer.py: \(text)")
    return text
  }

  /// Random messages of every type, made by Python.
  private static func corpus(seed: Int, count: Int, in folder: URL) throws -> [(name: String, bytes: [UInt8])]
  {
    let path = folder.appending(path: "sent").path
    _ = try Self.python(["generate", Self.root.appending(path: "proto").path, "\(seed)", "\(count)", path])
    let data = [UInt8](try Data(contentsOf: URL(filePath: path)))
    var at = 0
    func part() -> [UInt8] {
      let length = (0..<4).reduce(0) { $0 | Int(data[at + $1]) << (8 * $1) }
      defer { at += 4 + length }
      return Array(data[(at + 4)..<(at + 4 + length)])
    }
    var records: [(String, [UInt8])] = []
    while at < data.count { records.append((String(decoding: part(), as: UTF8.self), part())) }
    return records
  }

  private static func withFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appending(path: "schemas-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder)
  }

  private static let types = Dictionary(
    uniqueKeysWithValues: SchemaRegistry.allTypes.map { ($0.protoMessageName, $0) })

  @Test func `every message type survives Python → Swift → Python, unknown fields and enum numbers included`()
    throws
  {
    try Self.withFolder { folder in
      let sent = try Self.corpus(seed: 11, count: 40, in: folder)
      #expect(Set(sent.map(\.name)) == Set(Self.types.keys))
      var returned = Data()
      for record in sent {
        let type = try #require(Self.types[record.name])
        let bytes = try type.init(serializedBytes: record.bytes).serializedBytes()
        for part in [Array(record.name.utf8), bytes] {
          withUnsafeBytes(of: UInt32(part.count).littleEndian) { returned.append(contentsOf: $0) }
          returned.append(contentsOf: part)
        }
      }
      let path = folder.appending(path: "returned")
      try returned.write(to: path)
      let answer = try Self.python([
        "compare", Self.root.appending(path: "proto").path, folder.appending(path: "sent").path, path.path,
      ])
      #expect(answer.contains("\(sent.count) equal"))
    }
  }

  @Test func `decoding and encoding is the identity on values`() throws {
    try Self.withFolder { folder in
      for record in try Self.corpus(seed: 12, count: 10, in: folder) {
        func check<Message: ProtobufMessage>(_ type: Message.Type) throws {
          let value = try Message(serializedBytes: record.bytes)
          #expect(try Message(serializedBytes: value.serializedBytes()) == value)
          #expect(value.serializedSize == value.serializedBytes().count)
        }
        let type = try #require(Self.types[record.name])
        try check(type)
      }
    }
  }

  @Test func `100,000 mutated inputs neither crash nor leak`() throws {
    try Self.withFolder { folder in
      let corpus = try Self.corpus(seed: 13, count: 4, in: folder)
      var generator = SeededGenerator(state: 99)
      var refused = 0
      var inputs = 0
      while inputs < 100_000 {
        for record in corpus where inputs < 100_000 {
          var bytes = record.bytes
          for _ in 0..<Int.random(in: 1...4, using: &generator) {
            switch Int.random(in: 0..<4, using: &generator) {
            case 0 where !bytes.isEmpty:
              bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
                in: 0...255, using: &generator)
            case 1 where !bytes.isEmpty: bytes.removeLast(Int.random(in: 1...bytes.count, using: &generator))
            case 2: bytes.insert(0xFF, at: Int.random(in: 0...bytes.count, using: &generator))
            default: bytes += bytes.prefix(Int.random(in: 0...20, using: &generator))
            }
          }
          let type = try #require(Self.types[record.name])
          do { _ = try type.init(serializedBytes: bytes).serializedBytes() } catch is SchemaError {
            refused += 1
          }
          inputs += 1
        }
      }
      #expect(refused > 10_000)
      #expect(refused < inputs)
    }
    #expect(CMessageCoder.outstandingAllocations.load(ordering: .relaxed) == 0)
  }

  @Test func `invalid UTF-8 names its field`() {
    // Field 1 (trial_id) of TrialHeader with the byte FF.
    #expect {
      try TrialHeader(serializedBytes: [0x0A, 0x01, 0xFF])
    } throws: {
      "\($0)".contains("fleetloop.v1.TrialHeader.trial_id")
    }
  }

  /// So many empty steps, two bytes each.
  private static func emptySteps(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 2 * count) { buffer, initialized in
      for index in 0..<count { (buffer[2 * index], buffer[2 * index + 1]) = (0x0A, 0x00) }
      initialized = 2 * count
    }
  }

  @Test func `small bytes may not become large memory`() throws {
    // A few are within the allowance.
    #expect(try TrialSteps(serializedBytes: Self.emptySteps(4_000)).steps.count == 4_000)
    for count in [100_000, 4_000_000, 30_000_000] {
      #expect(throws: SchemaError.self) { try TrialSteps(serializedBytes: Self.emptySteps(count)) }
    }
    #expect(CMessageCoder.outstandingAllocations.load(ordering: .relaxed) == 0)
  }

  @Test func `the budget grows with the message up to a limit`() {
    #expect(CMessageCoder.budget(forBytes: 0) == 1 << 20)
    #expect(CMessageCoder.budget(forBytes: 1 << 20) == 9 << 20)
    #expect(CMessageCoder.budget(forBytes: 64 << 20) == 256 << 20)
    #expect(CMessageCoder.budget(forBytes: .max) == 256 << 20)
  }

  @Test(arguments: [1, 500, 20_000])
  func `trials of many small steps are within the budget`(count: Int) throws {
    let steps = TrialSteps(
      steps: (0..<count).map { index in
        TrialStep(
          index: UInt32(index), elapsedNanos: Int64(index) * 50_000_000,
          jointAngles: [Float](repeating: 0.25, count: 7), action: [Float](repeating: 0.5, count: 4))
      })
    #expect(try TrialSteps(serializedBytes: steps.serializedBytes()) == steps)
  }

  @Test func `maps encode in the order of their keys`() throws {
    let labels = Dictionary(uniqueKeysWithValues: (0..<50).map { ("k\($0)", "v") })
    let bytes = TrialHeader(labels: labels).serializedBytes()
    for _ in 0..<5 { #expect(TrialHeader(labels: labels).serializedBytes() == bytes) }
    #expect(try TrialHeader(serializedBytes: bytes).labels == labels)
  }

  @Test func `descriptors hold a file and its imports`() throws {
    let set = try #require(SchemaRegistry.fileDescriptorSet(for: "fleetloop.v1.TelemetryEvent"))
    let text = String(decoding: set, as: UTF8.self)
    #expect(text.contains("fleetloop/v1/telemetry.proto") && text.contains("fleetloop/v1/trial.proto"))
    #expect(SchemaRegistry.fileDescriptorSet(for: "fleetloop.v1.Nothing") == nil)
  }
}

/// SplitMix64: the same inputs in every run.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    self.state &+= 0x9E37_79B9_7F4A_7C15
    var z = self.state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
