/// How a socket that binds knows its peers.
public struct ServerSecurity: Sendable {
  /// Anyone may connect; only for endpoints that cannot be reached from outside of the machine.
  public static let none = ServerSecurity(keys: nil)

  /// Peers need an authorized key.
  /// - Throws: ``BusError`` where the store's own key is missing or malformed.
  public static func curve(_ store: KeyStore) throws -> ServerSecurity {
    ServerSecurity(keys: (.of(store), try store.own().pair))
  }

  let keys: (watcher: KeyWatcher, own: KeyPair)?
}

/// How a socket that connects proves who it is, and knows whom it reached.
public struct ClientSecurity: Sendable {
  public static let none = ClientSecurity(keys: nil)

  /// - Parameter serverKey: the server's public key, Z85.
  public static func curve(_ store: KeyStore, serverKey: String) throws -> ClientSecurity {
    guard KeyPair.isKey(serverKey) else {
      throw BusError(.invalidKey, "\"\(serverKey)\" is no public key: 40 characters of Z85 are needed.")
    }
    return ClientSecurity(keys: (try store.own().pair, serverKey))
  }

  let keys: (own: KeyPair, serverKey: String)?
}

/// Security from a service's settings.
public enum BusSecurity {
  /// - Parameter keys: folder of a ``KeyStore``; empty for none.
  public static func server(keys: String) throws -> ServerSecurity {
    keys.isEmpty ? .none : try .curve(KeyStore(folder: keys))
  }

  /// - Parameters:
  ///   - service: name under which the server's public key is authorized.
  ///   - keys: folder of a ``KeyStore``; empty for none.
  public static func client(of service: String, keys: String) throws -> ClientSecurity {
    guard !keys.isEmpty else { return .none }
    let store = KeyStore(folder: keys)
    return try .curve(store, serverKey: store.authorized(service).publicKey)
  }
}
