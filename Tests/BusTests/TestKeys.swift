import Bus
import Foundation

/// Key folders of a server and of peers that it trusts, gone with the test.
final class TestKeys: Sendable {
  let folder = NSTemporaryDirectory() + "fleetloop-keys-\(UUID().uuidString)"
  let server: KeyStore

  init() throws {
    self.server = KeyStore(folder: self.folder + "/ingest")
    try self.server.create(name: "ingest", role: .ingest)
  }

  deinit { try? FileManager.default.removeItem(atPath: self.folder) }

  func peer(_ name: String, _ role: Role, trusted: Bool = true) throws -> ClientSecurity {
    let store = KeyStore(folder: "\(self.folder)/\(name)-\(role.rawValue)")
    let pair = try store.create(name: name, role: role)
    if trusted { try self.server.authorize(.init(name: name, role: role, publicKey: pair.publicKey)) }
    try store.authorize(.init(name: "ingest", role: .ingest, publicKey: self.server.own().pair.publicKey))
    return try BusSecurity.client(of: "ingest", keys: store.folder)
  }
}

func counted(_ counter: BusMetrics.Counter) -> UInt64 { BusMetrics.snapshot()[counter.rawValue] ?? 0 }
