import Foundation
import Schemas

/// A folder of keys: `own.json`, this process's identity and key pair, and `authorized/NAME.json`, the public keys of those it trusts.
///
/// Sockets see a change within half a second, see ``KeyWatcher``; a peer that was refused tries again every three seconds.
public struct KeyStore: Sendable, Hashable {
  /// Of `authorized/NAME.json`.
  public struct AuthorizedKey: Sendable, Hashable, Codable {
    public var name: String
    public var role: Role
    public var publicKey: String

    public init(name: String, role: Role, publicKey: String) {
      self.name = name
      self.role = role
      self.publicKey = publicKey
    }

    public var identity: PeerIdentity { PeerIdentity(name: self.name, role: self.role) }
  }

  /// Of `own.json`.
  private struct OwnKey: Codable {
    var name: String
    var role: Role
    var publicKey: String
    var secretKey: String
  }

  public let folder: String

  public init(folder: String) { self.folder = folder }

  var ownFile: String { self.folder + "/own.json" }
  var authorizedFolder: String { self.folder + "/authorized" }

  /// Makes a key pair and stores it as the folder's own, readable by its owner only.
  /// - Throws: ``BusError`` where the folder has one already or cannot be written.
  @discardableResult
  public func create(name: String, role: Role) throws -> KeyPair {
    try Self.check(name: name)
    guard !FileManager.default.fileExists(atPath: self.ownFile) else {
      throw BusError(.invalidKey, "\(self.ownFile) exists already. Remove it to make a new key.")
    }
    var pair = try KeyPair()
    // On a command line it would be taken for an option.
    while pair.publicKey.hasPrefix("-") { pair = try KeyPair() }
    let own = OwnKey(name: name, role: role, publicKey: pair.publicKey, secretKey: pair.secretKey)
    try self.write(own, to: self.ownFile, permissions: 0o600)
    return pair
  }

  /// This process's key pair and the identity it claims.
  /// - Throws: ``BusError`` with code `invalidKey`.
  public func own() throws -> (identity: PeerIdentity, pair: KeyPair) {
    let attributes = try? FileManager.default.attributesOfItem(atPath: self.ownFile)
    if let mode = attributes?[.posixPermissions] as? NSNumber, mode.intValue & 0o077 != 0 {
      throw BusError(.invalidKey, "\(self.ownFile) can be read by others. Run: chmod 600 \(self.ownFile)")
    }
    let own: OwnKey = try self.read(self.ownFile)
    return (
      PeerIdentity(name: own.name, role: own.role),
      try KeyPair(publicKey: own.publicKey, secretKey: own.secretKey)
    )
  }

  /// Trusts a key from now on.
  public func authorize(_ key: AuthorizedKey) throws {
    try Self.check(name: key.name)
    guard KeyPair.isKey(key.publicKey) else {
      throw BusError(.invalidKey, "\"\(key.publicKey)\" is no public key: 40 characters of Z85 are needed.")
    }
    try self.write(key, to: self.file(of: key.name), permissions: 0o644)
  }

  /// Trusts a name no longer. Its calls and subscriptions end within a second or two.
  /// - Throws: ``BusError`` where no such name is trusted.
  public func revoke(_ name: String) throws {
    try Self.check(name: name)
    do {
      try FileManager.default.removeItem(atPath: self.file(of: name))
    } catch {
      throw BusError(.invalidKey, "\(name) is not authorized in \(self.folder).", cause: error)
    }
  }

  /// - Throws: ``BusError`` where the name is not trusted or its file is malformed.
  public func authorized(_ name: String) throws -> AuthorizedKey {
    try Self.check(name: name)
    return try self.read(self.file(of: name))
  }

  /// Every trusted key, by name. Files that are no keys are left out.
  public func authorized() -> [AuthorizedKey] {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: self.authorizedFolder)) ?? []
    return files.sorted().compactMap { self.authorizedKey(inFile: "\(self.authorizedFolder)/\($0)") }
  }

  /// The key of a file; nil where it is none.
  func authorizedKey(inFile path: String) -> AuthorizedKey? {
    guard let key: AuthorizedKey = try? self.read(path) else { return nil }
    // A file's name is the name it speaks for: one file cannot give out another's name.
    return path.hasSuffix("/\(key.name).json") ? key : nil
  }

  // MARK: Files

  private func file(of name: String) -> String { "\(self.authorizedFolder)/\(name).json" }

  /// Names become file names and parts of topics.
  static func check(name: String) throws {
    guard Names.isValid(name) else {
      throw BusError(.invalidKey, "'\(name.prefix(64))' is no name: \(Names.rule).")
    }
  }

  private func read<Value: Decodable>(_ path: String) throws -> Value {
    do {
      return try JSONDecoder().decode(Value.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw BusError(
        .invalidKey, "\(path) is missing or no key file. Make one with: fleet keys", cause: error)
    }
  }

  private func write(_ value: some Encodable, to path: String, permissions: Int) throws {
    do {
      let folder = (path as NSString).deletingLastPathComponent
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      let data = try encoder.encode(value)
      // Permissions come before the contents: a secret is never readable by others, not for a moment.
      let draft = "\(path).\(UUID().uuidString)"
      guard
        FileManager.default.createFile(
          atPath: draft, contents: nil, attributes: [.posixPermissions: permissions])
      else { throw CocoaError(.fileWriteUnknown) }
      try data.write(to: URL(fileURLWithPath: draft))
      guard rename(draft, path) == 0 else { throw CocoaError(.fileWriteUnknown) }
    } catch {
      throw BusError(.invalidKey, "\(path) cannot be written.", cause: error)
    }
  }
}
