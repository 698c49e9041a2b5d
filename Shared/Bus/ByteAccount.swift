import CZeroMQ

/// Bytes that are held for somebody: of all peers, and of each, which counts in that of all.
///
/// `@unchecked Sendable`: its number is atomic, and the pointer does not change.
final class ByteAccount: @unchecked Sendable {
  let handle: UnsafeMutablePointer<czmq_account>

  init(in parent: ByteAccount? = nil) { self.handle = czmq_account_make(parent?.handle) }

  deinit { czmq_account_release(self.handle) }

  var bytes: Int { Int(czmq_account_bytes(self.handle)) }

  func add(_ bytes: Int) { czmq_account_add(self.handle, Int64(bytes)) }
}
