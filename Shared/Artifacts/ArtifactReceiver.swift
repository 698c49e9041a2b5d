public import Schemas

/// Takes a model in, chunk by chunk. Nothing is kept of a model that is not whole, and memory is bounded by one file.
public struct ArtifactReceiver: Sendable {
  /// Bytes of the largest piece that is accepted.
  public static let maximumPieceSize = 1 << 20

  private let store: ArtifactStore
  private let verify: @Sendable (SignedManifest) throws(ArtifactError) -> ModelManifest
  private var signed: SignedManifest?
  /// Nil before the first chunk.
  public private(set) var manifest: ModelManifest?
  /// Files yet to come, by name: those that are not here, or not whole.
  private(set) var expected: [String: ModelFile] = [:]
  private var current: (file: ModelFile, bytes: [UInt8])?

  /// - Parameters:
  ///   - trust: who may have signed.
  public init(into store: ArtifactStore, trust: ModelTrust) {
    self.init(into: store) { signed throws(ArtifactError) in try trust.verify(signed) }
  }

  /// - Parameter verify: decides about the manifest before a byte of its files is taken.
  public init(
    into store: ArtifactStore,
    verify: @escaping @Sendable (SignedManifest) throws(ArtifactError) -> ModelManifest
  ) {
    self.store = store
    self.verify = verify
  }

  /// Takes the next chunk. After an error the receiver is of no more use.
  /// - Throws: ``ArtifactError`` `.incomplete` for a wrong order, `.corrupt` for a wrong hash, and what trust throws.
  public mutating func receive(_ chunk: ModelChunk) throws(ArtifactError) {
    switch chunk.part {
    case .manifest(let signed):
      guard self.signed == nil else {
        throw ArtifactError(.incomplete, "A second manifest came within one model.")
      }
      let manifest = try self.verify(signed)
      for file in manifest.files where try !self.store.keepOrDelete(file) { self.expected[file.name] = file }
      self.signed = signed
      self.manifest = manifest
    case .piece(let piece): try self.receive(piece)
    case nil: throw ArtifactError(.incomplete, "A chunk holds neither a manifest nor a piece of a file.")
    }
  }

  private mutating func receive(_ piece: ModelFilePiece) throws(ArtifactError) {
    guard let manifest = self.manifest else {
      throw ArtifactError(.incomplete, "A piece of a file came before the manifest.")
    }
    guard piece.data.count <= Self.maximumPieceSize else {
      throw ArtifactError(
        .tooLarge,
        "A piece of '\(piece.name.prefix(64))' has \(piece.data.count) bytes; at most "
          + "\(Self.maximumPieceSize) are accepted.")
    }
    if self.current == nil {
      guard let file = self.expected[piece.name] else {
        // A file that is here already may come all the same.
        if manifest.files.contains(where: { $0.name == piece.name && self.store.contains($0.sha256) }) {
          return
        }
        throw ArtifactError(
          .incomplete, "Model \(manifest.version) has no file '\(piece.name.prefix(64))' left to come.")
      }
      self.current = (file, [])
    }
    // Only the count is read here: a second reference to the bytes would make every append copy them.
    let received = UInt64(self.current?.bytes.count ?? 0)
    guard let file = self.current?.file, file.name == piece.name,
      piece.offset == received, !piece.data.isEmpty || file.bytes == 0,
      received + UInt64(piece.data.count) <= file.bytes
    else {
      throw ArtifactError(
        .incomplete,
        "A piece of '\(piece.name.prefix(64))' at byte \(piece.offset) is out of order in model "
          + "\(manifest.version).")
    }
    self.current?.bytes.append(contentsOf: piece.data)
    if received + UInt64(piece.data.count) == file.bytes { try self.finishFile() }
  }

  private mutating func finishFile() throws(ArtifactError) {
    guard let (file, bytes) = self.current else { return }
    self.current = nil
    guard Digest.sha256(bytes) == file.sha256 else {
      throw ArtifactError(
        .corrupt, "File '\(file.name)' does not have the hash that the manifest says. Send the model again.")
    }
    _ = try self.store.store(bytes, name: file.name)
    // Another name may stand for the same content, which is sent once.
    self.expected = self.expected.filter { $0.value.sha256 != file.sha256 }
  }

  /// Ends the model and keeps its manifest.
  /// - Throws: ``ArtifactError`` `.incomplete` where something is missing.
  public mutating func finish() throws(ArtifactError) -> SignedManifest {
    guard let signed = self.signed, let manifest = self.manifest else {
      throw ArtifactError(.incomplete, "The model ended before its manifest came.")
    }
    guard self.current == nil, self.expected.isEmpty else {
      let missing = Set(self.expected.keys).union(self.current.map { [$0.file.name] } ?? [])
      throw ArtifactError(
        .incomplete,
        "Model \(manifest.version) ended without \(missing.sorted().prefix(5).joined(separator: ", ")). "
          + "Send it again; files that came whole are kept.")
    }
    try self.store.save(signed)
    return signed
  }
}
