internal import Foundation

/// Named arrays of 32-bit floats in the safetensors format
/// (https://huggingface.co/docs/safetensors): 8 bytes of header length, a JSON header, the numbers.
///
/// Bytes are not trusted: every offset and shape is checked before it is used.
public struct Safetensors: Sendable, Hashable {
  public struct Tensor: Sendable, Hashable {
    public var shape: [Int]
    /// Row-major.
    public var values: [Float]

    public init(shape: [Int], values: [Float]) {
      self.shape = shape
      self.values = values
    }
  }

  /// Bytes of the largest header that is read.
  public static let maximumHeaderBytes = 4 << 20

  public var tensors: [String: Tensor]
  public var metadata: [String: String]

  public init(tensors: [String: Tensor] = [:], metadata: [String: String] = [:]) {
    self.tensors = tensors
    self.metadata = metadata
  }

  // MARK: Writing

  /// The file's bytes; equal contents give equal bytes. Numbers are little-endian, as every platform of this package is.
  public func bytes() throws(PolicyError) -> [UInt8] {
    let names = self.tensors.keys.sorted()
    var header: [String: Any] = [:]
    if !self.metadata.isEmpty { header["__metadata__"] = self.metadata }
    var offset = 0
    for name in names {
      guard let tensor = self.tensors[name], tensor.shape.reduce(1, *) == tensor.values.count else {
        throw PolicyError(.invalidWeights, "Tensor '\(name)' does not have as many values as its shape says.")
      }
      let end = offset + 4 * tensor.values.count
      header[name] = ["dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, end]] as [String: Any]
      offset = end
    }
    var json: [UInt8]
    do {
      json = Array(try JSONSerialization.data(withJSONObject: header, options: [.sortedKeys]))
    } catch {
      throw PolicyError(.invalidWeights, "The header of a weights file cannot be written.", cause: error)
    }
    // Spaces align the numbers to 8 bytes, which lets a reader map them.
    json += Array(repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(8 + json.count + offset)
    withUnsafeBytes(of: UInt64(json.count).littleEndian) { bytes.append(contentsOf: $0) }
    bytes += json
    for name in names { self.tensors[name]?.values.withUnsafeBytes { bytes.append(contentsOf: $0) } }
    return bytes
  }

  // MARK: Reading

  private struct Entry: Decodable {
    var dtype: String
    var shape: [Int]
    var dataOffsets: [Int]

    private enum CodingKeys: String, CodingKey {
      case dtype, shape
      case dataOffsets = "data_offsets"
    }
  }

  /// A header whose keys are names of tensors, but for one.
  private struct Header: Decodable {
    var entries: [String: Entry] = [:]
    var metadata: [String: String] = [:]

    private struct Name: CodingKey {
      var stringValue: String
      var intValue: Int? { nil }
      init(stringValue: String) { self.stringValue = stringValue }
      init?(intValue: Int) { nil }
    }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: Name.self)
      for key in container.allKeys {
        if key.stringValue == "__metadata__" {
          self.metadata = try container.decode([String: String].self, forKey: key)
        } else {
          self.entries[key.stringValue] = try container.decode(Entry.self, forKey: key)
        }
      }
    }
  }

  /// - Parameter name: what the bytes are called in errors.
  /// - Throws: ``PolicyError`` `.invalidWeights`.
  public init(bytes: [UInt8], name: String) throws(PolicyError) {
    func damaged(_ reason: String, _ cause: (any Error)? = nil) -> PolicyError {
      PolicyError(
        .invalidWeights,
        "\(name) is no usable safetensors file: \(reason). Fetch the model again or train it again.",
        cause: cause)
    }
    guard bytes.count >= 8 else { throw damaged("it has only \(bytes.count) bytes") }
    let length = bytes.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard length <= UInt64(Self.maximumHeaderBytes), length <= UInt64(bytes.count - 8) else {
      throw damaged("its header of \(length) bytes does not fit \(bytes.count) bytes")
    }
    let start = 8 + Int(length)
    let header: Header
    do {
      header = try JSONDecoder().decode(Header.self, from: Data(bytes[8..<start]))
    } catch {
      throw damaged("its header cannot be read", error)
    }
    // Tensors must follow each other without a hole or an overlap, and fill the file.
    var tensors: [String: Tensor] = [:]
    var expected = 0
    let ordered = header.entries.sorted {
      ($0.value.dataOffsets.first ?? 0, $0.key) < ($1.value.dataOffsets.first ?? 0, $1.key)
    }
    for (key, entry) in ordered {
      guard entry.dtype == "F32" else { throw damaged("'\(key)' is \(entry.dtype), only F32 is supported") }
      var count = 1
      for size in entry.shape {
        let (product, overflow) = count.multipliedReportingOverflow(by: size)
        guard size >= 0, !overflow, product <= bytes.count else {
          throw damaged("'\(key)' has a wrong shape")
        }
        count = product
      }
      guard entry.dataOffsets.count == 2, entry.dataOffsets[0] == expected,
        entry.dataOffsets[1] == expected + 4 * count, entry.dataOffsets[1] <= bytes.count - start
      else { throw damaged("'\(key)' lies outside of the file or does not have the size of its shape") }
      let from = start + expected
      let values = [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
        bytes.withUnsafeBytes { source in
          UnsafeMutableRawBufferPointer(buffer).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: source[from..<(from + 4 * count)]))
        }
        initialized = count
      }
      tensors[key] = Tensor(shape: entry.shape, values: values)
      expected = entry.dataOffsets[1]
    }
    guard expected == bytes.count - start else {
      throw damaged("\(bytes.count - start - expected) bytes belong to no tensor")
    }
    self.init(tensors: tensors, metadata: header.metadata)
  }
}
