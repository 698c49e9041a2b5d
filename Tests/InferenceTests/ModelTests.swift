import Artifacts
import Foundation
import GRPCCore
import Policy
import Schemas
import ServiceKit
import TestSupport
import Testing

@testable import InferenceCore

@Suite struct ModelTests {
  @Test func manyThatAskForAVersionCauseOneFetch() async throws {
    try await Bench.run { bench in
      let engine = try bench.registry.add("v1", serial: 1)
      try await withThrowingTaskGroup(of: ActResponse.self) { group in
        for step in 0..<20 {
          group.addTask { try await bench.client.predict(request("v1", step: step)) }
        }
        for try await answer in group {
          let expected = try engine.action(observation(step: Int(answer.requestID)))
          #expect(isClose(answer.actions, expected))
        }
      }
      #expect(bench.registry.fetches == ["v1"])
    }
  }

  @Test func aVersionThatIsPreparedMeanwhileFailsNoRequest() async throws {
    try await Bench.run { bench in
      try bench.registry.add("v1", serial: 1)
      _ = try await bench.client.prepare(PrepareRequest())
      let answers = try await bench.client.act { writer in
        for step in 0..<200 {
          // Without a version: whatever is newest when the request comes.
          try await writer.write(request(step: step))
          guard step == 100 else { continue }
          try bench.registry.add("v2", serial: 2)
          #expect(try await bench.client.prepare(PrepareRequest(version: "v2")).tasks == ["open", "close"])
        }
      } onResponse: { response in
        try await response.messages.reduce(into: [UInt64: ActResponse]()) { $0[$1.requestID] = $1 }
      }
      #expect(answers.count == 200 && answers.values.allSatisfy { $0.code == 0 })
      #expect((101..<200).allSatisfy { answers[$0]?.modelVersion == "v2" })
      #expect(answers.values.allSatisfy { ["v1", "v2"].contains($0.modelVersion) })
    }
  }

  @Test func theLeastUsedVersionMakesRoomAndComesBackFromTheDisk() async throws {
    try await Bench.run(capacity: 1) { bench in
      let engines = [try bench.registry.add("v1", serial: 1), try bench.registry.add("v2", serial: 2)]
      for round in 0..<6 {
        let answer = try await bench.client.predict(request("v\(round % 2 + 1)"))
        #expect(isClose(answer.actions, try engines[round % 2].action(observation())))
        #expect(bench.inference.status.models.map(\.version) == ["v\(round % 2 + 1)"])
      }
      #expect(bench.registry.fetches == ["v1", "v2"])
    }
  }

  @Test(arguments: [true, false])
  func `a disk that keeps no model is told until it keeps one, whether one is asked for or not`(
    _ isAsked: Bool
  ) async throws {
    try await Bench.run { bench in
      try bench.registry.add("v1", serial: 1)
      let objects = "\(bench.folder.path)/inference/objects"
      try FileManager.default.removeItem(atPath: objects)
      try Data().write(to: URL(filePath: objects))
      let error = await #expect(throws: RPCError.self) {
        try await bench.client.prepare(PrepareRequest(version: "v1"))
      }
      #expect(error?.code == .internalError && error?.message.contains(objects) == true, "\(error as Any)")
      #expect(bench.vitals.broken.map(\.part) == ["models"])
      // What the registry does not have says nothing of the disk.
      #expect(await status { _ = try await bench.client.prepare(PrepareRequest(version: "v9")) } == .notFound)
      #expect(!bench.vitals.broken.isEmpty)
      try FileManager.default.removeItem(atPath: objects)
      try FileManager.default.createDirectory(atPath: objects, withIntermediateDirectories: false)
      if isAsked {
        try await eventually("the model is kept") {
          await status { _ = try await bench.client.prepare(PrepareRequest(version: "v1")) } == nil
        }
        #expect(bench.vitals.broken.isEmpty)
        return
      }
      let looking = Task { try await bench.inference.run() }
      try await eventually("the disk is looked at") { bench.vitals.broken.isEmpty }
      looking.cancel()
      _ = await looking.result
    }
  }

  @Test func modelsThatAreNotTrustedAreNeverRun() async throws {
    try await Bench.run { bench in
      try bench.registry.add("stranger", serial: 1, signedBy: SigningKey())
      try bench.registry.add("old", serial: 2, expires: 1)
      for (version, expected) in [
        ("stranger", RPCError.Code.failedPrecondition), ("old", .failedPrecondition), ("v9", .notFound),
        ("../../key", .invalidArgument),
      ] {
        #expect(await status { _ = try await bench.client.predict(request(version)) } == expected)
        #expect(
          await status { _ = try await bench.client.prepare(PrepareRequest(version: version)) } == expected)
      }
      #expect(bench.inference.status.models.isEmpty)
    }
  }

  /// The registry lost its state, and took another model under the old name.
  @Test func `a version acts with the content that is asked for, or is refused`() async throws {
    try await Bench.run(capacity: 2) { bench in
      func add(serial: UInt64) throws -> (engine: InferenceEngine, sha256: [UInt8]) {
        let engine = try bench.registry.add("v1", serial: serial)
        return (engine, try bench.registry.store.manifest(of: "v1").sha256)
      }
      func expect(_ model: (engine: InferenceEngine, sha256: [UInt8])) async throws {
        let answer = try await bench.client.predict(request("v1", content: model.sha256))
        #expect(isClose(answer.actions, try model.engine.action(observation())))
      }
      let old = try add(serial: 1)
      try await expect(old)
      let new = try add(serial: 2)
      for model in [new, old, new] { try await expect(model) }
      #expect(Set(bench.inference.status.models.map(\.manifestSha256)) == [new.sha256, old.sha256])
      let lost = [UInt8](repeating: 7, count: 32)
      for content in [lost, [7], [UInt8](repeating: 7, count: 33)] {
        let expected: RPCError.Code = content == lost ? .failedPrecondition : .invalidArgument
        let prepare = PrepareRequest(version: "v1", manifestSha256: content)
        #expect(await status { _ = try await bench.client.prepare(prepare) } == expected)
        #expect(
          await status { _ = try await bench.client.predict(request("v1", content: content)) } == expected)
      }
      let refused = try #require(bench.inference.status.refusedModels.first)
      #expect(bench.inference.status.refusedModels.count == 1)
      #expect(refused.version == "v1" && refused.manifestSha256 == lost && !refused.reason.isEmpty)
      try await expect(new)
      #expect(await status { _ = try await bench.client.predict(request(content: lost)) } == .invalidArgument)
    }
  }

  @Test func `what lies on the disk under an old name is not served for new content, nor the other way`()
    async throws
  {
    let (folder, registry) = (try TemporaryFolder(), try FakeRegistry())
    defer { withExtendedLifetime(folder) {} }
    try registry.add("v1", serial: 1)
    let old = try registry.store.manifest(of: "v1").sha256
    func inference() throws -> Inference {
      try Bench.inference(folder: folder, key: registry.key, source: registry.source)
    }
    _ = try await inference().act(request("v1", content: old), of: "robot", arrival: .now)
    let engine = try registry.add("v1", serial: 2)
    let new = try registry.store.manifest(of: "v1").sha256
    let answer = try await inference().act(request("v1", content: new), of: "robot", arrival: .now)
    #expect(isClose(answer.actions, try engine.action(observation())))
    let again = try inference()
    let refusal = await code { _ = try await again.act(request("v1", content: old), of: "r", arrival: .now) }
    #expect(refusal == .refused && again.status.refusedModels.map(\.manifestSha256) == [old])
    // The registry has it again.
    try registry.add("v1", serial: 1)
    _ = try await inference().act(request("v1", content: old), of: "robot", arrival: .now)
  }

  @Test func aModelThatWasDamagedOnItsWayIsNeverRunAndMayBeSentAgain() async throws {
    let registry = try FakeRegistry()
    let engine = try registry.add("v1", serial: 1)
    let chunks = try ArtifactSender("v1", from: registry.store).map { try $0.get() }
    func changed(_ index: Int, _ change: (inout ModelFilePiece, inout SignedManifest) -> Void) -> [ModelChunk]
    {
      var chunks = chunks
      var (piece, manifest) = (ModelFilePiece(), SignedManifest())
      switch chunks[index].part {
      case .piece(let part):
        piece = part
        change(&piece, &manifest)
        chunks[index].part = .piece(piece)
      case .manifest(let part):
        manifest = part
        change(&piece, &manifest)
        chunks[index].part = .manifest(manifest)
      case nil: break
      }
      return chunks
    }
    let damaged: [([ModelChunk], InferenceError.Code)] = [
      ([], .unavailable), (chunks.dropLast(), .unavailable), (Array(chunks.dropFirst()), .unavailable),
      (changed(1) { piece, _ in piece.data[piece.data.count / 2] ^= 1 }, .unavailable),
      (changed(1) { piece, _ in piece.data.removeLast() }, .unavailable),
      (changed(0) { _, signed in signed.signature = [] }, .refused),
      (changed(0) { _, signed in signed.manifest[0] ^= 1 }, .refused),
      (changed(0) { _, signed in signed.keyID = "0000000000000000" }, .refused),
    ]
    for (sent, expected) in damaged {
      let folder = try TemporaryFolder()
      defer { withExtendedLifetime(folder) {} }
      let inference = try Bench.inference(
        folder: folder, key: registry.key,
        source: ModelSource(fetch: { _, take in for chunk in sent { try await take(chunk) } }, list: { [] }))
      #expect(
        await code { _ = try await inference.act(request("v1"), of: "robot", arrival: .now) } == expected)
      #expect(inference.status.models.isEmpty)
      let whole = try Bench.inference(folder: folder, key: registry.key, source: registry.source)
      let answer = try await whole.act(request("v1"), of: "robot", arrival: .now)
      #expect(isClose(answer.actions, try engine.action(observation())))
    }
  }

  @Test func aModelThatExpiresInMemoryActsNoMore() async throws {
    try await Bench.run { bench in
      let expires = ModelTrust.now() + 2_000_000_000
      try bench.registry.add("v1", serial: 1, expires: expires)
      // On a machine so slow that it expired before, the first call is refused already.
      _ = try? await bench.client.predict(request("v1"))
      while ModelTrust.now() <= expires { try await Task.sleep(for: .milliseconds(50)) }
      #expect(await status { _ = try await bench.client.predict(request("v1")) } == .failedPrecondition)
      #expect(bench.inference.status.models.isEmpty)
    }
  }

  @Test func withoutTheRegistryTheDiskIsEnoughAndWithItDamageIsMended() async throws {
    struct Gone: Error {}
    let (folder, registry) = (try TemporaryFolder(), try FakeRegistry())
    defer { withExtendedLifetime(folder) {} }
    let gone = ModelSource(fetch: { _, _ in throw Gone() }, list: { throw Gone() })
    let engine = try registry.add("v1", serial: 1)
    func inference(_ source: ModelSource) throws -> Inference {
      try Bench.inference(folder: folder, key: registry.key, source: source)
    }
    _ = try await inference(registry.source).prepare("")

    let answer = try await inference(gone).act(request(), of: "robot", arrival: .now)
    #expect(answer.modelVersion == "v1")
    #expect(isClose(answer.actions, try engine.action(observation())))

    let objects = "\(folder.path)/inference/objects"
    for name in try FileManager.default.contentsOfDirectory(atPath: objects) {
      try Data("damaged".utf8).write(to: URL(filePath: "\(objects)/\(name)"))
    }
    let damaged = try inference(gone)
    await #expect(throws: InferenceError.self) { try await damaged.prepare("v1") }
    let mended = try await inference(registry.source).act(request("v1"), of: "robot", arrival: .now)
    #expect(isClose(mended.actions, try engine.action(observation())))
  }
}
