internal import Foundation
internal import Storage

/// Durable files, with what goes wrong said as an ``ArtifactError``.
enum ArtifactFiles {
  static func write(
    _ bytes: some ContiguousBytes, to path: String, mode: UInt32 = 0o644
  ) throws(ArtifactError) {
    do throws(StorageError) { try DurableFile.write(bytes, to: path, mode: mode) } catch { throw .of(error) }
  }

  static func read(_ path: String, limit: Int) throws(ArtifactError) -> [UInt8] {
    do throws(StorageError) { return try DurableFile.read(path, limit: limit) } catch { throw .of(error) }
  }

  static func open(_ path: String) throws(ArtifactError) -> any DiskFile {
    do throws(StorageError) { return try SystemDisk().open(path, .read) } catch { throw .of(error) }
  }

  static func size(of file: any DiskFile) throws(ArtifactError) -> Int {
    do throws(StorageError) { return try file.size() } catch { throw .of(error) }
  }

  /// Exactly `count` bytes.
  static func read(_ file: any DiskFile, at offset: Int, count: Int) throws(ArtifactError) -> [UInt8] {
    do throws(StorageError) { return try file.read(at: offset, count: count) } catch { throw .of(error) }
  }

  static func probe(_ folder: String) throws(ArtifactError) {
    do throws(StorageError) { try DurableFile.probe(folder) } catch { throw .of(error) }
  }

  static func makeFolder(_ path: String) throws(ArtifactError) {
    do throws(StorageError) { try SystemDisk().makeFolder(path) } catch { throw .of(error) }
  }
}

extension ArtifactError {
  fileprivate static func of(_ error: StorageError) -> ArtifactError {
    let code: Code =
      switch error.code {
      case .diskFull: .diskFull
      case .notFound: .notFound
      case .tooLarge: .tooLarge
      case .corrupt: .corrupt
      case .inUse, .exists, .fileSystem, .denied: .fileSystem
      }
    return ArtifactError(code, error.message, cause: error.cause)
  }
}
