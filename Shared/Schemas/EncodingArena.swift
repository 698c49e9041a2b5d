internal import CProtobufC
import Foundation

/// Memory for the C structs of one message while it is packed; all of it goes at once.
final class EncodingArena {
  private var blocks: [UnsafeMutableRawPointer] = []
  private var next: UnsafeMutableRawPointer?
  private var left = 0

  deinit { for block in self.blocks { free(block) } }

  private func take(_ size: Int, alignment: Int) -> UnsafeMutableRawPointer {
    let padding = (alignment - Int(bitPattern: self.next) & (alignment - 1)) & (alignment - 1)
    if self.next == nil || self.left < size + padding {
      let capacity = max(4096, size + alignment)
      guard let block = malloc(capacity) else { fatalError("Out of memory for \(capacity) bytes.") }
      self.blocks.append(block)
      self.next = block
      self.left = capacity
      return self.take(size, alignment: alignment)
    }
    guard let next = self.next else { fatalError("unreachable: a block was just made") }
    let start = next + padding
    self.next = start + size
    self.left -= size + padding
    return start
  }

  /// Room for one value, not initialized.
  func make<Value>(_: Value.Type) -> UnsafeMutablePointer<Value> {
    self.room(for: Value.self, count: 1)
  }

  private func room<Value>(for _: Value.Type, count: Int) -> UnsafeMutablePointer<Value> {
    self.take(max(1, MemoryLayout<Value>.stride * count), alignment: MemoryLayout<Value>.alignment)
      .bindMemory(to: Value.self, capacity: count)
  }

  /// A C string. A NUL inside ends it for protobuf-c.
  func string(_ text: String) -> UnsafeMutablePointer<CChar> {
    var text = text
    return text.withUTF8 { utf8 in
      let target = self.room(for: CChar.self, count: utf8.count + 1)
      UnsafeMutableRawPointer(target).copyMemory(
        from: utf8.baseAddress ?? UnsafePointer(bitPattern: 1)!, byteCount: utf8.count)
      target[utf8.count] = 0
      return target
    }
  }

  func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
    ProtobufCBinaryData(len: bytes.count, data: self.copy(bytes))
  }

  func copy<Element>(_ elements: [Element]) -> UnsafeMutablePointer<Element>? {
    guard !elements.isEmpty else { return nil }
    let target = self.room(for: Element.self, count: elements.count)
    elements.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { target.initialize(from: base, count: elements.count) }
    }
    return target
  }

  func values<Element, Value>(
    _ elements: [Element], _ make: (Element) -> Value
  ) -> UnsafeMutablePointer<Value>? {
    guard !elements.isEmpty else { return nil }
    let target = self.room(for: Value.self, count: elements.count)
    for (index, element) in elements.enumerated() { (target + index).initialize(to: make(element)) }
    return target
  }

  func pointers<Element, Value>(
    _ elements: [Element], _ make: (Element) -> UnsafeMutablePointer<Value>
  ) -> UnsafeMutablePointer<UnsafeMutablePointer<Value>?>? {
    self.values(elements) { Optional(make($0)) }
  }
}
