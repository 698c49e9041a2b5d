import Foundation

/// What the names of a disk mean.
struct DiskNames {
  enum Change {
    case put(String, Inode)
    case move(String, String)
    case remove(String)
    case addFolder(String)

    /// Folders in which it changes names.
    var folders: [String] {
      switch self {
      case .put(let path, _), .remove(let path), .addFolder(let path): [DiskNames.folder(of: path)]
      case .move(let path, let newPath): [DiskNames.folder(of: path), DiskNames.folder(of: newPath)]
      }
    }
  }

  private(set) var files: [String: Inode] = [:]
  private(set) var folders: Set<String> = ["/"]
  /// Paths of files in the order in which they came to be, so that a listing does not depend on how a dictionary is laid out.
  private(set) var order: [String] = []

  mutating func apply(_ change: Change) {
    switch change {
    case .put(let path, let inode): self.put(path, inode)
    case .move(let path, let newPath):
      guard let inode = self.files[path] else { return }
      self.drop(path)
      self.put(newPath, inode)
    case .remove(let path): self.drop(path)
    case .addFolder(let path): self.folders.insert(path)
    }
  }

  private mutating func put(_ path: String, _ inode: Inode) {
    if self.files.updateValue(inode, forKey: path) == nil { self.order.append(path) }
  }

  private mutating func drop(_ path: String) {
    guard self.files.removeValue(forKey: path) != nil else { return }
    self.order.removeAll { $0 == path }
  }

  /// Whether every folder above a name is there.
  func isReachable(_ path: String) -> Bool {
    var folder = Self.folder(of: path)
    while self.folders.contains(folder) {
      guard folder != "/" else { return true }
      folder = Self.folder(of: folder)
    }
    return false
  }

  /// Forgets what lies in folders that are not there.
  mutating func dropUnreachable() {
    for path in self.order where !self.isReachable(path) { self.drop(path) }
    self.folders = self.folders.filter { $0 == "/" || self.isReachable($0) }
  }

  /// Names in a folder, files first.
  func names(in folder: String) -> [String] {
    let paths =
      self.order.filter { Self.folder(of: $0) == folder }
      + self.folders.filter { $0 != "/" && Self.folder(of: $0) == folder }.sorted()
    return paths.map { String($0[$0.index(after: $0.lastIndex(of: "/") ?? $0.startIndex)...]) }
  }

  static func folder(of path: String) -> String {
    guard let mark = path.lastIndex(of: "/"), mark != path.startIndex else { return "/" }
    return String(path[..<mark])
  }
}
