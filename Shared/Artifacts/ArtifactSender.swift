public import Schemas
internal import Storage

/// A model as the chunks in which it travels: the signed manifest, then each file in pieces.
///
/// Holds one file open, and none in memory: many receivers that do not read cost little.
public struct ArtifactSender: Sequence, IteratorProtocol, Sendable {
  /// Bytes of one piece.
  public static let pieceSize = 256 << 10

  private let store: ArtifactStore
  private var signed: SignedManifest?
  private var files: ArraySlice<ModelFile>
  private var current: (file: ModelFile, opened: any DiskFile, offset: Int)?

  /// - Parameters:
  ///   - skipped: SHA-256 of files that the receiver has.
  /// - Throws: ``ArtifactError`` `.notFound`, `.invalidManifest`.
  public init(
    _ version: String, from store: ArtifactStore, skipping skipped: [[UInt8]] = [], manifestOnly: Bool = false
  ) throws(ArtifactError) {
    let signed = try store.manifest(of: version)
    let manifest = try ManifestRules.decode(signed)
    let skipped = Set(skipped)
    var sent: Set<[UInt8]> = []
    self.store = store
    self.signed = signed
    self.files =
      manifestOnly
      ? []
      : manifest.files.filter { !skipped.contains($0.sha256) && sent.insert($0.sha256).inserted }[...]
  }

  /// The next chunk; nil after the last.
  public mutating func next() -> Result<ModelChunk, ArtifactError>? {
    do throws(ArtifactError) {
      return try self.nextChunk().map { .success($0) }
    } catch {
      self.files = []
      self.current = nil
      return .failure(error)
    }
  }

  private mutating func nextChunk() throws(ArtifactError) -> ModelChunk? {
    if let signed = self.signed {
      self.signed = nil
      return ModelChunk(part: .manifest(signed))
    }
    while true {
      if let (file, opened, offset) = self.current {
        let size = Int(clamping: file.bytes)
        let end = Swift.min(size, offset + Self.pieceSize)
        let data = try ArtifactFiles.read(opened, at: offset, count: end - offset)
        self.current = end < size ? (file, opened, end) : nil
        return ModelChunk(
          part: .piece(ModelFilePiece(name: file.name, offset: UInt64(offset), data: data)))
      }
      guard let file = self.files.popFirst() else { return nil }
      self.current = (file, try self.store.open(file), 0)
    }
  }
}
