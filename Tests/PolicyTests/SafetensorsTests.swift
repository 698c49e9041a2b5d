import Policy
import Testing

@Suite struct SafetensorsTests {
  let file = Safetensors(
    tensors: [
      "b": .init(shape: [2, 3], values: [1, 2, 3, 4, 5, 6]), "a": .init(shape: [], values: [-0.5]),
      "empty": .init(shape: [0, 4], values: []),
    ], metadata: ["task": "drawer \"open\"\n"])

  /// A file with a header written by hand.
  func raw(_ header: String, data: Int) -> [UInt8] {
    let length = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> ($0 * 8)) }
    return length + Array(header.utf8) + Array(repeating: 0, count: data)
  }

  @Test func comesBackAsItWas() throws {
    let bytes = try self.file.bytes()
    #expect(try Safetensors(bytes: bytes, name: "x") == self.file)
    #expect(try Safetensors(bytes: bytes, name: "x").bytes() == bytes)
  }

  @Test func everyTruncationIsAnError() throws {
    let bytes = try self.file.bytes()
    for count in 0..<bytes.count {
      #expect(code { _ = try Safetensors(bytes: Array(bytes.prefix(count)), name: "x") } == .invalidWeights)
    }
    #expect(code { _ = try Safetensors(bytes: bytes + [0], name: "x") } == .invalidWeights)
  }

  @Test(arguments: [
    (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
    (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
    (
      #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
      4
    ),
    (#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#, 4),
    (#"{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}"#, 4),
    (#"{"a":{"dtype":"F32","shape":[9223372036854775807,2],"data_offsets":[0,4]}}"#, 4),
    (#"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#, 4),
    (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, 4),
    (#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#, 4),
    (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, 4),
    (#"{"a":[]}"#, 0), ("[]", 0), ("", 0), ("{", 0),
  ])
  func hostileHeadersAreErrors(header: String, data: Int) {
    #expect(code { _ = try Safetensors(bytes: self.raw(header, data: data), name: "x") } == .invalidWeights)
  }

  @Test func aHeaderLongerThanMemoryIsAnError() {
    let bytes = Array(repeating: UInt8.max, count: 8) + Array("{}".utf8)
    #expect(code { _ = try Safetensors(bytes: bytes, name: "x") } == .invalidWeights)
    #expect(
      code { _ = try Safetensors(bytes: self.raw(String(repeating: "[", count: 50_000), data: 0), name: "x") }
        == .invalidWeights)
  }

  @Test func mutatedBytesNeverCrash() throws {
    let bytes = try self.file.bytes()
    var random = SplitMix64(seed: 1)
    var refused = 0
    for _ in 0..<3_000 {
      var mutated = bytes
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        mutated[Int.random(in: 0..<mutated.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if code({ _ = try Safetensors(bytes: mutated, name: "x") }) != nil { refused += 1 }
    }
    #expect(refused > 1_000)
  }

  @Test func aModelOfDamagedFilesIsRefused() throws {
    let configuration = try tinyConfiguration()
    let network = try PolicyNetwork(configuration: configuration, tasks: ["a", "b"])
    let good = Dictionary(uniqueKeysWithValues: try network.files().map { ($0.name, $0.bytes) })
    func make(_ tasks: [String] = ["a", "b"], _ change: (inout [String: [UInt8]]) throws -> Void)
      -> PolicyError.Code?
    {
      code {
        var files = good
        try change(&files)
        _ = try PolicyNetwork(configuration: configuration, tasks: tasks, files: files)
      }
    }
    #expect(make { _ in } == nil)
    #expect(make { $0["trunk.safetensors"] = nil } == .invalidWeights)
    #expect(make { $0["head-1.safetensors"] = nil } == .invalidWeights)
    #expect(make { $0["trunk.safetensors"]?.removeLast(400) } == .invalidWeights)
    #expect(make(["b", "a"]) { _ in } == .invalidWeights)
    #expect(make(["a", "b", "c"]) { _ in } == .invalidWeights)
    #expect(
      make { files in
        var trunk = try Safetensors(bytes: files["trunk.safetensors"] ?? [], name: "x")
        trunk.tensors["vision.bias"]?.values[0] = .nan
        files["trunk.safetensors"] = try trunk.bytes()
      } == .invalidWeights)
    #expect(
      make { files in
        var trunk = try Safetensors(bytes: files["trunk.safetensors"] ?? [], name: "x")
        trunk.tensors["vision.bias"]?.shape.append(1)
        files["trunk.safetensors"] = try trunk.bytes()
      } == .invalidWeights)
  }
}
