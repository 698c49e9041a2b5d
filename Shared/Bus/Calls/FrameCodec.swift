import GRPCCore
import Schemas

/// Turns parts of a call into frames and back; no I/O. proto/BUS.md describes the frames.
enum FrameCodec {
  /// A header and the messages that follow it.
  struct Frame: Sendable {
    var header: CallFrame
    var messages: [ZeroMQBytes] = []
    /// Of `messages`.
    var bytes = 0
  }

  /// Messages that may share a header, and the bytes after which no other joins them: what is small travels together.
  static let mostMessages = 64
  static let fullFrame = 64 << 10
  /// Frames of the longest message: routing id, delimiter, header, messages.
  static let mostFrames = 3 + Self.mostMessages

  /// Packs a call's parts into as few frames as their order allows.
  /// - Parameter first: the header of the first frame, e.g. OPEN with its method; nil for DATA.
  static func frames(of parts: [CallPart], id: UInt64, first: CallFrame? = nil) -> [Frame] {
    var frames: [Frame] = []
    var current = first.map { Frame(header: $0) }
    func begin() -> Frame { Frame(header: CallFrame(kind: .data, callID: id)) }
    for part in parts {
      var frame = current ?? begin()
      switch part {
      case .metadata(let metadata):
        frame.header.hasMetadata = true
        frame.header.metadata = Self.entries(metadata)
      case .message(let bytes):
        if frame.messages.count == Self.mostMessages || frame.bytes + bytes.count > Self.fullFrame,
          !frame.messages.isEmpty
        {
          frames.append(frame)
          frame = begin()
        }
        frame.header.hasMessage = true
        frame.messages.append(bytes)
        frame.bytes += bytes.count
      case .halfClose: frame.header.halfClose = true
      case .credit(let amount): frame.header.credit += UInt64(amount)
      case .status(let status, let metadata):
        frame.header.kind = .status
        frame.header.statusCode = UInt32(status.code.rawValue)
        frame.header.statusMessage = Self.withoutNUL(status.message)
        frame.header.trailingMetadata = Self.entries(metadata)
      case .cancel:
        frames.append(Frame(header: CallFrame(kind: .cancel, callID: id)))
        return frames
      }
      current = frame
    }
    if let current { frames.append(current) }
    return frames
  }

  /// Entries of one call's metadata: a header's two bytes can be an entry, and a call holds its metadata as long as it lasts.
  static let mostEntries = 256

  static func status(of header: CallFrame) -> Status {
    let code = Status.Code(rawValue: Int(clamping: header.statusCode)) ?? .unknown
    return Status(code: code, message: header.statusMessage)
  }

  static func metadata(_ entries: [MetadataEntry]) -> Metadata {
    var metadata = Metadata()
    metadata.reserveCapacity(entries.count)
    for entry in entries {
      switch entry.value {
      case .text(let text): metadata.addString(text, forKey: entry.key)
      // GRPCCore asserts gRPC's rule that keys of bytes end so; a peer that breaks it must not end the process.
      case .binary(let bytes):
        metadata.addBinary(bytes, forKey: entry.key.hasSuffix("-bin") ? entry.key : entry.key + "-bin")
      case nil: metadata.addString("", forKey: entry.key)
      }
    }
    return metadata
  }

  static func entries(_ metadata: Metadata) -> [MetadataEntry] {
    metadata.map { key, value in
      switch value {
      case .string(let text):
        MetadataEntry(key: Self.withoutNUL(key), value: .text(Self.withoutNUL(text)))
      case .binary(let bytes): MetadataEntry(key: Self.withoutNUL(key), value: .binary(bytes))
      }
    }
  }

  /// protobuf-c's strings end at a NUL.
  private static func withoutNUL(_ text: String) -> String {
    text.utf8.contains(0) ? text.replacing("\0", with: "") : text
  }

  /// "package.Service/Method" taken apart.
  static func descriptor(_ method: String) -> MethodDescriptor? {
    guard let slash = method.lastIndex(of: "/"), slash > method.startIndex,
      method.index(after: slash) < method.endIndex
    else { return nil }
    return MethodDescriptor(
      fullyQualifiedService: String(method[..<slash]), method: String(method[method.index(after: slash)...]))
  }
}
