import CZeroMQ

/// A CURVE key pair in Z85, 40 characters each.
public struct KeyPair: Sendable, Hashable {
  public let publicKey: String
  public let secretKey: String

  /// A new pair.
  /// - Throws: ``BusError`` where ZeroMQ was built without CURVE.
  public init() throws {
    var publicKey = [CChar](repeating: 0, count: 41)
    var secretKey = [CChar](repeating: 0, count: 41)
    guard zmq_curve_keypair(&publicKey, &secretKey) == 0 else {
      throw BusError(.systemFailure, "This ZeroMQ has no CURVE: install libzmq with libsodium.")
    }
    self.publicKey = Self.text(publicKey)
    self.secretKey = Self.text(secretKey)
  }

  /// - Throws: ``BusError`` with code `invalidKey`.
  public init(publicKey: String, secretKey: String) throws {
    guard Self.isKey(secretKey), (try? Self.publicKey(of: secretKey)) == publicKey else {
      throw BusError(.invalidKey, "The secret key does not belong to public key \(publicKey).")
    }
    self.publicKey = publicKey
    self.secretKey = secretKey
  }

  /// The public key that belongs to a secret key.
  public static func publicKey(of secretKey: String) throws -> String {
    var publicKey = [CChar](repeating: 0, count: 41)
    guard zmq_curve_public(&publicKey, secretKey) == 0 else {
      throw BusError(.invalidKey, "The secret key is no key in Z85.")
    }
    return Self.text(publicKey)
  }

  /// Whether a text is a key of 32 bytes in Z85.
  static func isKey(_ text: String) -> Bool {
    guard text.utf8.count == 40 else { return false }
    var bytes = [UInt8](repeating: 0, count: 32)
    return zmq_z85_decode(&bytes, text) != nil
  }

  /// - Parameter bytes: 32.
  static func encode(_ bytes: [UInt8]) -> String {
    var text = [CChar](repeating: 0, count: 41)
    guard bytes.count == 32, zmq_z85_encode(&text, bytes, 32) != nil else { return "" }
    return Self.text(text)
  }

  private static func text(_ characters: [CChar]) -> String {
    String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
