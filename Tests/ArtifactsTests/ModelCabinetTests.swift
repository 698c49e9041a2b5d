import Artifacts
import Schemas
import Storage
import Synchronization
import TestSupport
import Testing

@Suite struct ModelCabinetTests {
  @Test func `a version that is on its way loses nothing to another that has come`() async throws {
    let folder = try TemporaryFolder()
    let key = SigningKey()
    let trust = ModelTrust(keys: [key.verificationKey])
    let registry = try ArtifactStore(folder: "\(folder.path)/registry")
    for (version, byte) in [("a", 1), ("b", 2), ("c", 3)] as [(String, UInt8)] {
      let files = try ["trunk", "head"].map { name in
        try registry.store([UInt8](repeating: byte, count: 5_000 + name.utf8.count), name: name)
      }
      try registry.save(try key.sign(ModelManifest(version: version, files: files)))
    }
    let cabinet = try ModelCabinet(
      folder: "\(folder.path)/cabinet", kept: 1, executor: QueueExecutor(label: "test.cabinet"),
      trust: { trust })
    let whole: ArtifactSource = { request, take in
      for chunk in try ArtifactSender(request.version, from: registry, skipping: request.haveSha256) {
        try await take(try chunk.get())
      }
    }
    // What makes way for the next: with it goes what no manifest here names.
    _ = try await cabinet.model("c", from: whole)
    let asked = Mutex(0)
    let model = try await cabinet.model("b") { request, take in
      asked.withLock { $0 += 1 }
      let chunks = try ArtifactSender("b", from: registry, skipping: request.haveSha256).map { try $0.get() }
      for chunk in chunks.dropLast() { try await take(chunk) }
      // All but the last piece is here.
      _ = try await cabinet.model("a", from: whole)
      for chunk in chunks.suffix(1) { try await take(chunk) }
    }
    #expect(model.files["trunk"]?.first == 2 && model.files["head"]?.first == 2)
    #expect(asked.withLock { $0 } == 1)
    #expect(try await cabinet.manifests().map(\.version) == ["b"], "who ends last tidies up")
  }

  @Test func `a manifest that says a wrong size costs no other version its file`() async throws {
    let folder = try TemporaryFolder()
    let key = SigningKey()
    let trust = ModelTrust(keys: [key.verificationKey])
    let store = try ArtifactStore(folder: folder.path)
    let file = try store.store([UInt8](repeating: 1, count: 5_000), name: "trunk")
    try store.save(try key.sign(ModelManifest(version: "a", files: [file])))
    let wrong = ModelFile(name: "trunk", bytes: file.bytes + 1, sha256: file.sha256)
    var receiver = ArtifactReceiver(into: store, trust: trust)
    let manifest = ModelChunk(part: .manifest(try key.sign(ModelManifest(version: "b", files: [wrong]))))
    let error = #expect(throws: ArtifactError.self) { try receiver.receive(manifest) }
    #expect(error?.code == .invalidManifest)
    #expect(try store.open("a", trust: trust).files["trunk"]?.count == 5_000)
  }
}
