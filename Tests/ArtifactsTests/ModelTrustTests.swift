import Artifacts
import Foundation
import Schemas
import TestSupport
import Testing

@Suite struct ModelTrustTests {
  let key = SigningKey()
  var trust: ModelTrust { ModelTrust(keys: [self.key.verificationKey]) }

  func code(_ body: () throws -> Void) -> ArtifactError.Code? {
    do { try body() } catch { return (error as? ArtifactError)?.code }
    return nil
  }

  @Test func aSignedManifestComesBackAsItWas() throws {
    let manifest = ModelManifest(version: "v1", tasks: ["drawer-open-v3"], serial: 7)
    #expect(try self.trust.verify(self.key.sign(manifest)) == manifest)
  }

  @Test func versionsAndFilesHaveTheNamesThatTheyHaveEverywhere() {
    for name in NameSamples.good + NameSamples.bad {
      let file = ModelFile(name: name, bytes: 1, sha256: [UInt8](repeating: 0, count: 32))
      for manifest in [ModelManifest(version: name), ModelManifest(version: "v1", files: [file])] {
        let isTaken = self.code { try ManifestRules.check(manifest) } == nil
        #expect(isTaken == NameSamples.good.contains(name), "\(name.debugDescription)")
      }
    }
  }

  @Test func everyChangedByteIsNoticed() throws {
    let signed = try self.key.sign(ModelManifest(version: "v1", parent: "v0", tasks: ["a", "b"], serial: 7))
    for index in signed.manifest.indices {
      var changed = signed
      changed.manifest[index] ^= 0x01
      #expect(self.code { _ = try self.trust.verify(changed) } == .invalidSignature)
    }
    for index in signed.signature.indices {
      var changed = signed
      changed.signature[index] ^= 0x80
      #expect(self.code { _ = try self.trust.verify(changed) } == .invalidSignature)
    }
    var unsigned = signed
    unsigned.signature = []
    #expect(self.code { _ = try self.trust.verify(unsigned) } == .invalidSignature)
  }

  @Test func aStrangersKeyIsRefusedEvenUnderAKnownName() throws {
    let stranger = SigningKey()
    var signed = try stranger.sign(ModelManifest(version: "v1"))
    #expect(self.code { _ = try self.trust.verify(signed) } == .untrustedKey)
    signed.keyID = self.key.verificationKey.id
    #expect(self.code { _ = try self.trust.verify(signed) } == .invalidSignature)
  }

  @Test func expiryAndAgeAreBounds() throws {
    let signed = try self.key.sign(ModelManifest(version: "v1", expiresUnixNanos: 100, serial: 3))
    #expect(try self.trust.verify(signed, now: 99).version == "v1")
    #expect(self.code { _ = try self.trust.verify(signed, now: 100) } == .expired)
    var strict = self.trust
    strict.minimumSerial = 4
    #expect(self.code { _ = try strict.verify(signed, now: 0) } == .tooOld)
    strict.minimumSerial = 3
    #expect(throws: Never.self) { try strict.verify(signed, now: 0) }
  }

  @Test(arguments: ["", ".", "../v1", "a/b", "ä", String(repeating: "x", count: 65)])
  func versionsThatAreNoFileNamesAreRefused(version: String) throws {
    let signed = try self.key.sign(ModelManifest(version: version))
    #expect(self.code { _ = try self.trust.verify(signed) } == .invalidManifest)
  }

  @Test func aModelOfHostileSizeIsRefused() throws {
    let file = ModelFile(name: "a", bytes: .max, sha256: Array(repeating: 0, count: 32))
    var other = file
    other.name = "b"
    let signed = try self.key.sign(ModelManifest(version: "v1", files: [file, other]))
    #expect(self.code { _ = try self.trust.verify(signed) } == .tooLarge)
  }

  @Test func keyFilesArePrivateAndComeBack() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/keys/model.key"
    let made = try SigningKey.loadOrCreate(at: path)
    let again = try SigningKey.loadOrCreate(at: path)
    #expect(made.verificationKey == again.verificationKey)
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    #expect(
      try ModelTrust(path: "\(folder.path)/keys/model.pub").verify(again.sign(.init(version: "v1"))).tasks
        == [])
    let trust = try ModelTrust(path: "\(folder.path)/keys")
    #expect(try trust.verify(again.sign(ModelManifest(version: "v1"))).version == "v1")
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
    #expect(self.code { _ = try SigningKey(file: path) } == .invalidKey)
    #expect(self.code { _ = try ModelTrust(path: "\(folder.path)/nowhere") } == .notFound)
  }
}
