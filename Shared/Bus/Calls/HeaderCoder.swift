import GRPCCore
import Schemas

/// Packs and unpacks headers, and remembers the last plain one of each direction: on a stream, one header follows
/// another without a difference.
struct HeaderCoder {
  /// Bytes of the largest header.
  static let largest = 64 << 10

  private var sent: (callID: UInt64, bytes: ZeroMQBytes)?
  private var received: (bytes: ZeroMQBytes, header: CallFrame)?

  mutating func encode(_ header: CallFrame) -> ZeroMQBytes {
    guard Self.isPlain(header) else { return Self.pack(header) }
    if let sent, sent.callID == header.callID { return sent.bytes }
    let bytes = Self.pack(header)
    self.sent = (header.callID, bytes)
    return bytes
  }

  /// The frames after the routing id and its delimiter, or nil where they are none of the bus.
  mutating func decode(_ frames: ArraySlice<ZeroMQBytes>) -> FrameCodec.Frame? {
    guard let head = frames.first, frames.count <= 1 + FrameCodec.mostMessages,
      let header = self.header(head), header.hasMessage == (frames.count > 1)
    else { return nil }
    switch header.kind {
    case .unspecified, .unrecognized: return nil
    default: return FrameCodec.Frame(header: header, messages: Array(frames.dropFirst()))
    }
  }

  private mutating func header(_ bytes: ZeroMQBytes) -> CallFrame? {
    if let received, received.bytes == bytes { return received.header }
    guard bytes.count <= Self.largest,
      let header = try? bytes.withUnsafeBytes({ try CallFrame(serializedBytes: $0) })
    else { return nil }
    // A copy: while the frame itself is kept, its sender counts it and its messages as not read (inproc).
    if Self.isPlain(header) { self.received = (bytes.withUnsafeBytes { ZeroMQBytes(copying: $0) }, header) }
    return header
  }

  /// Whether the header says nothing but that messages of a call follow.
  private static func isPlain(_ header: CallFrame) -> Bool {
    header.kind == .data && header.hasMessage && !header.halfClose && header.credit == 0
      && !header.hasMetadata
      && header.metadata.isEmpty && header.trailingMetadata.isEmpty && header.method.isEmpty
      && header.timeoutNanos == 0 && header.statusCode == 0 && header.statusMessage.isEmpty
      && !header.singleResponse && header.unknownFields.isEmpty
  }

  private static func pack(_ header: CallFrame) -> ZeroMQBytes {
    header.withEncoder { encoder in
      ZeroMQBytes(uninitializedCount: encoder.size) { encoder.write(to: $0) }
    }
  }
}
