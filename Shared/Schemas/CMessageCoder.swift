internal import CProtobufC
internal import CSchemas
import Foundation
import Synchronization

/// What the generator writes for each message: its way from and to protobuf-c's struct.
protocol CMessage: ProtobufMessage {
  /// protobuf-c's `unpack`: a struct of this message, or nil.
  static func unpack(
    _ allocator: UnsafeMutablePointer<ProtobufCAllocator>, _ count: Int, _ bytes: UnsafePointer<UInt8>?
  ) -> UnsafeMutableRawPointer?
  static func read(_ pointer: UnsafeRawPointer) throws(SchemaError) -> Self
  func write(in arena: EncodingArena) -> UnsafeMutableRawPointer
}

/// A message as protobuf-c's struct, ready to be packed.
public struct MessageEncoder {
  let message: UnsafeRawPointer
  /// Bytes that the message takes.
  public let size: Int

  /// Packs the message.
  /// - Parameter destination: at least ``size`` bytes.
  public func write(to destination: UnsafeMutableRawBufferPointer) {
    precondition(
      destination.count >= self.size, "The destination has \(destination.count) bytes, not \(self.size).")
    guard let base = destination.baseAddress, self.size > 0 else { return }
    protobuf_c_message_pack(
      self.message.assumingMemoryBound(to: ProtobufCMessage.self), base.assumingMemoryBound(to: UInt8.self))
  }
}

enum CMessageCoder {
  /// Memory that unpacking may hold beside a multiple of the message's size: structs of small messages are larger than
  /// their bytes. Steps without an image, the densest that the fleet sends, take up to 5 times their bytes, and images
  /// and video once.
  static let allowance = 1 << 20
  static let expansion = 8
  /// The most that unpacking may hold, whatever the size.
  static let mostMemory = 256 << 20
  /// What an allocation costs beside its bytes.
  static let overhead = 16
  /// Blocks that protobuf-c has and did not give back; 0 whenever nothing is being decoded.
  static let outstandingAllocations = Atomic<Int>(0)

  static func decode<Message: CMessage>(_ bytes: UnsafeRawBufferPointer) throws(SchemaError) -> Message {
    var budget = Self.budget(forBytes: bytes.count)
    let result: Result<Message, SchemaError> = withUnsafeMutablePointer(to: &budget) { budget in
      var allocator = ProtobufCAllocator(
        alloc: { budget, size in CMessageCoder.allocate(size, budget) },
        free: { budget, pointer in CMessageCoder.free(pointer, budget) }, allocator_data: budget)
      let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
      guard let pointer = Message.unpack(&allocator, bytes.count, start) else {
        return .failure(
          SchemaError(
            .malformed,
            "\(bytes.count) bytes are no \(Message.protoMessageName): truncated, malformed, or of more than \(Self.budget(forBytes: bytes.count)) bytes when unpacked."
          ))
      }
      defer {
        protobuf_c_message_free_unpacked(pointer.assumingMemoryBound(to: ProtobufCMessage.self), &allocator)
      }
      do throws(SchemaError) { return .success(try Message.read(pointer)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  static func withEncoder<Result>(
    _ message: some CMessage, _ body: (MessageEncoder) throws -> Result
  ) rethrows -> Result {
    let arena = EncodingArena()
    let pointer = message.write(in: arena)
    let size = protobuf_c_message_get_packed_size(pointer.assumingMemoryBound(to: ProtobufCMessage.self))
    // The struct points into the arena, which must outlive it.
    return try withExtendedLifetime(arena) {
      try body(MessageEncoder(message: UnsafeRawPointer(pointer), size: size))
    }
  }

  /// - Returns: bytes that unpacking a message of so many may hold at a time.
  static func budget(forBytes count: Int) -> Int {
    let (product, overflow) = count.multipliedReportingOverflow(by: Self.expansion)
    return overflow ? Self.mostMemory : min(Self.mostMemory, Self.allowance + product)
  }

  private static func allocate(_ size: Int, _ data: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let budget = data?.assumingMemoryBound(to: Int.self), size <= budget.pointee,
      let pointer = malloc(max(1, size))
    else { return nil }
    budget.pointee -= malloc_usable_size(pointer) + Self.overhead
    Self.outstandingAllocations.add(1, ordering: .relaxed)
    return pointer
  }

  private static func free(_ pointer: UnsafeMutableRawPointer?, _ data: UnsafeMutableRawPointer?) {
    guard let pointer else { return }
    data?.assumingMemoryBound(to: Int.self).pointee += malloc_usable_size(pointer) + Self.overhead
    Self.outstandingAllocations.subtract(1, ordering: .relaxed)
    Foundation.free(pointer)
  }
}

/// Fields on their way from C.
enum CField {
  static func string(_ pointer: UnsafePointer<CChar>?, _ place: String) throws(SchemaError) -> String {
    guard let pointer else { return "" }
    guard let text = String(validatingCString: pointer) else {
      throw SchemaError(.invalidUTF8, "\(place) is not UTF-8.")
    }
    return text
  }

  static func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
    Array(UnsafeBufferPointer(start: data.data, count: data.data == nil ? 0 : data.len))
  }

  static func array<Element>(_ start: UnsafeMutablePointer<Element>?, count: Int) -> [Element] {
    Array(UnsafeBufferPointer(start: start, count: start == nil ? 0 : count))
  }
}

extension UnknownFields {
  init(_ base: ProtobufCMessage) {
    for index in 0..<Int(base.n_unknown_fields) {
      let field = base.unknown_fields[index]
      self.fields.append(
        Field(
          number: field.tag, wireType: field.wire_type.rawValue,
          data: CField.array(field.data, count: field.len)))
    }
  }

  func write(to base: inout ProtobufCMessage, in arena: EncodingArena) {
    guard !self.fields.isEmpty else { return }
    base.n_unknown_fields = .init(self.fields.count)
    base.unknown_fields = arena.values(self.fields) { field in
      let data = arena.bytes(field.data)
      return ProtobufCMessageUnknownField(
        tag: field.number, wire_type: ProtobufCWireType(rawValue: field.wireType), len: data.len,
        data: data.data)
    }
  }
}
