package import Artifacts
package import Schemas
package import Storage

/// The models on a robot's disk, and what it remembers about them: a robot without a network acts with the last good one.
package actor ModelKeeper {
  /// Makes a policy of verified files. Called on the keeper's own thread.
  package typealias Load =
    @Sendable (_ manifest: ModelManifest, _ files: [String: [UInt8]]) throws -> any LocalPolicy

  /// A model ready to act.
  package struct Installed: Sendable {
    package var policy: any LocalPolicy
    /// SHA-256 of its manifest.
    package var sha256: [UInt8]
    package var serial: UInt64
    /// Unix time in nanoseconds after which no trial begins with it; 0 for never.
    package var expiresUnixNanos: Int64

    package init(
      _ policy: any LocalPolicy, sha256: [UInt8] = [], serial: UInt64 = 0, expiresUnixNanos: Int64 = 0
    ) {
      self.policy = policy
      self.sha256 = sha256
      self.serial = serial
      self.expiresUnixNanos = expiresUnixNanos
    }
  }

  /// Versions kept: the one in use and those that a rollback may bring back.
  static let keptVersions = 4

  private let executor: any SerialExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { self.executor.asUnownedSerialExecutor() }

  private let folder: String
  private let disk: any Disk
  private let cabinet: ModelCabinet
  private let load: Load

  /// - Parameters:
  ///   - disk: where the memory is kept; models are always the machine's own files.
  ///   - leftovers: told of what cannot be deleted; nil where nobody is.
  ///   - trust: asked at every installation, because keys may come after the robot's start.
  /// - Throws: `ArtifactError` `.fileSystem`; `StorageError` or ``RobotError`` `.diskFailed` where the folder cannot be used.
  package init(
    folder: String, disk: any Disk = SystemDisk(), runtime: Runtime = .system,
    leftovers: Leftovers? = nil, trust: @escaping @Sendable () throws -> ModelTrust, load: @escaping Load
  ) throws {
    self.executor = runtime.makeSerialExecutor("fleetloop.robot.models")
    self.folder = folder
    self.disk = disk
    self.cabinet = try ModelCabinet(
      folder: folder, kept: Self.keptVersions, executor: self.executor, trust: trust)
    self.load = load
    try disk.makeFolder(folder)
    try (leftovers ?? Leftovers(disk: disk)).remove(in: folder)
  }

  // MARK: Memory

  /// What the robot remembered when it was last at work.
  /// - Returns: also what is wrong with the file. Then the models on the disk say how new a one was trusted; which was good
  ///   nobody knows, the newest may have been taken back, so the robot acts with none until rollout answers it.
  package func recall() async -> (memory: VersionMemory, damage: String?) {
    do {
      let bytes = try DurableFile.read(self.file, limit: VersionMemory.maximumBytes, on: self.disk)
      return (try VersionMemory(bytes: bytes), nil)
    } catch let error as StorageError where error.code == .notFound {
      return (VersionMemory(), nil)
    } catch {
      let serials = (try? await self.cabinet.manifests())?.map(\.serial) ?? []
      return (
        VersionMemory(highestSerial: serials.max() ?? 0),
        "\(self.file) is damaged, so the robot does not know which model it was told; it acts with none until "
          + "rollout answers. (\(error))"
      )
    }
  }

  /// Returns once the memory is on the disk.
  /// - Throws: `StorageError`.
  package func remember(_ memory: VersionMemory) throws {
    try DurableFile.write(try memory.bytes, to: self.file, on: self.disk)
  }

  private var file: String { "\(self.folder)/memory" }

  // MARK: Models

  /// The model that the robot acted with last; nil where there is none, or it may no longer act (it has expired, say).
  package func lastGood(_ memory: VersionMemory) async -> Installed? {
    guard !memory.current.isEmpty else { return nil }
    return try? self.installed(try await self.cabinet.open(memory.current))
  }

  /// What the fleet desires, ready to act: from the disk, or from the registry where it is not here or not whole.
  /// - Throws: `ArtifactError` where it is not trusted, not whole, too old or not what was released; an engine's error; what
  ///   `fetch` throws.
  package func install(
    _ desired: DesiredVersion, memory: VersionMemory, fetch: ArtifactSource
  ) async throws -> Installed {
    let model = try await self.cabinet.model(
      desired.version,
      rule: { manifest, sha256 throws(ArtifactError) in
        try memory.check(manifest, sha256, for: desired)
      }, from: fetch)
    return try self.installed(model)
  }

  private func installed(_ model: ModelCabinet.Model) throws -> Installed {
    Installed(
      try self.load(model.manifest, model.files), sha256: model.sha256, serial: model.manifest.serial,
      expiresUnixNanos: model.manifest.expiresUnixNanos)
  }
}
