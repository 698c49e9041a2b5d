import CZeroMQ
public import GRPCCore
import Synchronization

/// Bytes in a ZeroMQ message: what arrived is read where it lies, what is sent is handed over, neither is copied.
///
/// A value: copies share their bytes until one is changed.
public struct ZeroMQBytes: GRPCContiguousBytes, Sendable {
  private var storage: Storage

  /// `@unchecked Sendable`: the message is written only through a unique reference (``withUnsafeMutableBytes(_:)``),
  /// and `zmq_msg_copy`, which notes in its source that it is shared, runs under a lock.
  private final class Storage: @unchecked Sendable {
    /// On the heap, because ZeroMQ's small messages hold their bytes themselves and must not move while they are read.
    let message = UnsafeMutablePointer<zmq_msg_t>.allocate(capacity: 1)
    /// Whether ZeroMQ may still be reading the bytes.
    let isShared = Mutex(false)

    init() { zmq_msg_init(self.message) }

    init(count: Int) {
      guard zmq_msg_init_size(self.message, count) == 0 else {
        fatalError("Out of memory for a message of \(count) bytes.")
      }
    }

    deinit {
      zmq_msg_close(self.message)
      self.message.deallocate()
    }

    var bytes: UnsafeMutableRawBufferPointer {
      UnsafeMutableRawBufferPointer(start: zmq_msg_data(self.message), count: zmq_msg_size(self.message))
    }
  }

  public init(repeating byte: UInt8, count: Int) {
    self.storage = Storage(count: count)
    _ = self.storage.bytes.initializeMemory(as: UInt8.self, repeating: byte)
  }

  public init<Bytes: Sequence>(_ sequence: Bytes) where Bytes.Element == UInt8 {
    let copied: Storage? = sequence.withContiguousStorageIfAvailable { source in
      let storage = Storage(count: source.count)
      storage.bytes.copyMemory(from: UnsafeRawBufferPointer(source))
      return storage
    }
    self.storage = copied ?? ZeroMQBytes(Array(sequence)).storage
  }

  /// Copies the bytes.
  public init(copying bytes: UnsafeRawBufferPointer) {
    self.storage = Storage(count: bytes.count)
    self.storage.bytes.copyMemory(from: bytes)
  }

  private init(_ storage: Storage) { self.storage = storage }

  /// Bytes that `body` writes; it must write all of them.
  init(uninitializedCount count: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
    self.storage = Storage(count: count)
    try body(self.storage.bytes)
  }

  public var count: Int { zmq_msg_size(self.storage.message) }

  public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try withExtendedLifetime(self.storage) { try body(UnsafeRawBufferPointer($0.bytes)) }
  }

  public mutating func withUnsafeMutableBytes<R>(
    _ body: (UnsafeMutableRawBufferPointer) throws -> R
  ) rethrows -> R {
    if !isKnownUniquelyReferenced(&self.storage) || self.storage.isShared.withLock({ $0 }) {
      let copy = Storage(count: self.count)
      copy.bytes.copyMemory(from: UnsafeRawBufferPointer(self.storage.bytes))
      self.storage = copy
    }
    return try body(self.storage.bytes)
  }

  /// A copy as an array.
  public var array: [UInt8] { self.withUnsafeBytes { Array($0) } }

  // MARK: On the loop's thread

  /// - Returns: 0 or an error number.
  func send(on socket: UnsafeMutableRawPointer, more: Bool) -> Int32 {
    var message = zmq_msg_t()
    zmq_msg_init(&message)
    self.storage.isShared.withLock { isShared in
      zmq_msg_copy(&message, self.storage.message)
      isShared = true
    }
    let error = czmq_send(&message, socket, more ? 1 : 0)
    if error != 0 { zmq_msg_close(&message) }
    return error
  }

  static func receive(on socket: UnsafeMutableRawPointer) -> ZeroMQBytes? {
    let storage = Storage()
    return czmq_receive(storage.message, socket) == 0 ? ZeroMQBytes(storage) : nil
  }

  var hasMore: Bool { zmq_msg_more(self.storage.message) != 0 }

  /// The descriptor of the connection that the frame came from; -1 within the process.
  var connection: CInt { zmq_msg_get(self.storage.message, ZMQ_SRCFD) }

  /// What ZeroMQ knows about the connection that the frame came from, e.g. "User-Id".
  func property(_ name: String) -> String? {
    zmq_msg_gets(self.storage.message, name).map { String(cString: $0) }
  }
}

extension ZeroMQBytes: Hashable {
  public static func == (left: ZeroMQBytes, right: ZeroMQBytes) -> Bool {
    left.withUnsafeBytes { left in right.withUnsafeBytes { right in left.elementsEqual(right) } }
  }

  public func hash(into hasher: inout Hasher) { self.withUnsafeBytes { hasher.combine(bytes: $0) } }
}
