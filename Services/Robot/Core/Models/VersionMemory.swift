package import Artifacts
import Foundation
package import Schemas

/// What a robot remembers about models: what it was told, what it acted with, and how new a model it has trusted.
///
/// Old orders and old models are refused by these rules:
/// - Within its epoch a robot follows a higher generation only. Another epoch it takes from the answer to its own report alone:
///   a publication may be a copy of an old one, an answer cannot be.
/// - A model whose serial is below the highest that it ever trusted is installed only where what it follows names that content
///   by its hash. So a rollback brings an older model back, and nobody else can.
/// - A model whose content is not the one that was named is refused, whatever its version and signature say. An order that
///   names none says nothing of it: what the version was named by last, or acted with, stays its content.
package struct VersionMemory: Sendable, Hashable {
  /// How word of a desired version came.
  package enum Source: Sendable { case answer, publication }

  /// What the robot follows; of generation 0 where it was told nothing.
  package private(set) var desired = DesiredVersion()
  /// Version that it acted with last; empty for none.
  package private(set) var current = ""
  package private(set) var highestSerial: UInt64 = 0
  /// The content of versions that it was named, or acted with, latest last.
  private var contents: [VersionContent] = []

  /// Versions whose content is remembered: many more than an operator goes back to.
  static let rememberedContents = 64

  package init() {}

  /// What a robot knows that lost its memory, but not its models: how new a model it trusted. Which of them was good it does not
  /// know, so it acts with none until rollout answers.
  package init(highestSerial: UInt64) { self.highestSerial = highestSerial }

  /// Takes word of a desired version.
  /// - Returns: whether the robot follows it now; false where it is none, or none newer.
  package mutating func follow(_ desired: DesiredVersion, from source: Source) -> Bool {
    guard desired.generation > 0 else { return false }
    if desired.epoch == self.desired.epoch {
      guard desired.generation > self.desired.generation else { return false }
    } else {
      guard source == .answer, desired.epoch != 0 else { return false }
    }
    let known = self.desired
    self.desired = desired
    if desired.version == known.version, desired.manifestSha256.isEmpty {
      self.desired.manifestSha256 = known.manifestSha256
    }
    self.note(desired.version, desired.manifestSha256)
    return true
  }

  private mutating func note(_ version: String, _ sha256: [UInt8]) {
    guard !sha256.isEmpty else { return }
    self.contents.removeAll { $0.version == version }
    self.contents.append(VersionContent(version: version, sha256: Data(sha256)))
    self.contents = self.contents.suffix(Self.rememberedContents)
  }

  /// Notes what the robot acts with from now on.
  /// - Parameters:
  ///   - sha256: of its manifest; empty where nobody knows it.
  ///   - serial: of its manifest; 0 for no model.
  package mutating func acts(with version: String, sha256: [UInt8] = [], serial: UInt64) {
    self.current = version
    self.highestSerial = max(self.highestSerial, serial)
    self.note(version, sha256)
  }

  /// Whether a model that somebody trusted signed is the one that is wanted.
  /// - Parameter sha256: of the manifest that was signed.
  /// - Throws: `ArtifactError` `.otherContent`, `.tooOld`.
  package func check(_ manifest: ModelManifest, _ sha256: [UInt8], for desired: DesiredVersion)
    throws(ArtifactError)
  {
    let pin = desired.manifestSha256
    let known = self.contents.first { $0.version == manifest.version }.map { [UInt8]($0.sha256) }
    try manifest.requireContent(sha256, named: pin.isEmpty ? known ?? [] : pin)
    guard !pin.isEmpty || manifest.serial >= self.highestSerial else {
      throw ArtifactError(
        .tooOld,
        "Model \(manifest.version) has serial \(manifest.serial), and serial \(self.highestSerial) was trusted "
          + "before. Only a release that names its content brings an older model back; release it again.")
    }
  }
}

/// What a version is: no other content is taken for it.
private struct VersionContent: Sendable, Hashable, Codable {
  var version: String
  /// Of its manifest.
  var sha256: Data
}

// MARK: As a file

extension VersionMemory {
  private struct Content: Codable {
    var desired: Data
    var current: String
    var highestSerial: UInt64
    /// Nil in what an older agent left.
    var contents: [VersionContent]?
  }

  /// Bytes of the largest file.
  static let maximumBytes = 64 << 10

  /// A hash, so that a damaged file is known, then JSON.
  var bytes: [UInt8] {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys
      let content = Content(
        desired: Data(self.desired.serializedBytes()), current: self.current,
        highestSerial: self.highestSerial, contents: self.contents)
      let json = [UInt8](try encoder.encode(content))
      return Array(Digest.hex(Digest.sha256(json)).utf8) + [UInt8(ascii: "\n")] + json
    }
  }

  /// - Throws: `ArtifactError` `.corrupt`.
  init(bytes: [UInt8]) throws {
    let json = Array(bytes.dropFirst(2 * Digest.size + 1))
    guard bytes.prefix(2 * Digest.size).elementsEqual(Digest.hex(Digest.sha256(json)).utf8) else {
      throw ArtifactError(.corrupt, "The content does not have the hash that it begins with.")
    }
    let content = try JSONDecoder().decode(Content.self, from: Data(json))
    self.desired = try DesiredVersion(serializedBytes: [UInt8](content.desired))
    self.current = content.current
    self.highestSerial = content.highestSerial
    self.contents = content.contents ?? []
  }
}
