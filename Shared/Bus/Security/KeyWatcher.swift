import CZeroMQ
import Foundation
import Synchronization

/// A folder's keys as they are now, read by a thread of its own: whoever asks waits for no disk.
///
/// A change is seen when the system tells of it, and at the latest after ``interval``. One watcher serves all sockets of
/// a process that use a folder.
final class KeyWatcher: Sendable {
  /// The keys that are trusted, by public key in Z85.
  struct Snapshot: Sendable {
    /// Grows with each change.
    var version: UInt64
    var identities: [String: PeerIdentity]
  }

  /// A file as it was when it was read.
  struct File: Sendable {
    var stamp: Stamp
    var key: KeyStore.AuthorizedKey?
  }

  struct Stamp: Sendable, Hashable {
    var device: UInt64
    var inode: UInt64
    var size: Int64
    var seconds: Int
    var nanoseconds: Int
  }

  static let interval: Duration = .milliseconds(500)
  /// Who asks for looks causes no more of them than one in this time.
  private static let pause: Duration = .milliseconds(100)
  /// A larger file is no key.
  private static let largestFile: Int64 = 16 << 10

  /// Of this process, by folder.
  private static let watchers = Mutex<[String: Reference]>([:])
  private struct Reference: Sendable { weak let watcher: KeyWatcher? }

  private let store: KeyStore
  private let current: Mutex<Snapshot>
  /// As they were last read; held while they are read.
  let files = Mutex<[String: File]>([:])
  /// Wakes the thread, which closes it at its end.
  private let wakeup: CInt
  private let lookers = Mutex<[@Sendable () -> Void]>([])

  /// The watcher of a folder, which has read it.
  static func of(_ store: KeyStore) -> KeyWatcher {
    self.watchers.withLock { watchers in
      if let watcher = watchers[store.folder]?.watcher { return watcher }
      watchers = watchers.filter { $0.value.watcher != nil }
      let watcher = KeyWatcher(store)
      watchers[store.folder] = Reference(watcher: watcher)
      return watcher
    }
  }

  private init(_ store: KeyStore) {
    self.store = store
    self.wakeup = czmq_eventfd()
    self.current = Mutex(Snapshot(version: 0, identities: [:]))
    self.read()
    let (folder, wakeup) = (store.authorizedFolder, self.wakeup)
    let thread = Thread { [weak self] in
      let changes = czmq_inotify()
      defer { for descriptor in [changes, wakeup] where descriptor >= 0 { czmq_eventfd_close(descriptor) } }
      while true {
        // Again and again: the folder may be made later, or anew.
        if changes >= 0 { _ = czmq_watch(changes, folder) }
        guard let hasLookers = self?.takeLook() else { return }
        if hasLookers { Thread.sleep(forTimeInterval: Self.pause / .seconds(1)) }
        czmq_watch_wait(changes, wakeup, Self.interval.wholeMilliseconds)
      }
    }
    thread.name = "bus-keys"
    thread.stackSize = 512 << 10
    thread.start()
  }

  var snapshot: Snapshot { self.current.withLock { $0 } }

  /// Who holds a key; nil where it is not trusted. A process trusts its own: a robot's control program has its agent's.
  func identity(ofPublicKey key: String) -> PeerIdentity? { self.current.withLock { $0.identities[key] } }

  /// Looks at the folder as it is from now on, then calls `done`, on the thread that looks.
  func look(_ done: @escaping @Sendable () -> Void) {
    self.lookers.withLock { $0.append(done) }
    if self.wakeup >= 0 { czmq_eventfd_signal(self.wakeup) }
  }

  /// - Returns: whether somebody had asked for it.
  private func takeLook() -> Bool {
    let lookers = self.lookers.withLock { lookers in
      defer { lookers = [] }
      return lookers
    }
    self.read()
    for looker in lookers { looker() }
    return !lookers.isEmpty
  }

  /// Reads what changed since it was last read.
  private func read() {
    let identities: [String: PeerIdentity]? = self.files.withLock { files in
      guard let names = self.names() else { return nil }
      var seen: [String: File] = [:]
      for path in names + [self.store.ownFile] {
        guard let stamp = Self.stamp(path) else { continue }
        if let file = files[path], file.stamp == stamp {
          seen[path] = file
        } else {
          seen[path] = File(stamp: stamp, key: self.key(path))
        }
      }
      files = seen
      var identities: [String: PeerIdentity] = [:]
      // What is authorized goes before what own.json says of itself, and an earlier name before a later one.
      for (_, file) in seen.sorted(by: { $0.key > $1.key }) {
        if let key = file.key { identities[key.publicKey] = key.identity }
      }
      return identities
    }
    guard let identities else { return BusMetrics.count(.keysUnreadable) }
    self.current.withLock { current in
      guard current.identities != identities else { return }
      current = Snapshot(version: current.version + 1, identities: identities)
    }
  }

  /// - Returns: nil where the folder is there but cannot be read, as for lack of descriptors: what was known stays known.
  private func names() -> [String]? {
    let folder = self.store.authorizedFolder
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".json") }
        .map { "\(folder)/\($0)" }
    } catch {
      return Self.stamp(folder) == nil ? [] : nil
    }
  }

  private func key(_ path: String) -> KeyStore.AuthorizedKey? {
    if path == self.store.ownFile {
      guard let own = try? self.store.own() else { return nil }
      return .init(name: own.identity.name, role: own.identity.role, publicKey: own.pair.publicKey)
    }
    return self.store.authorizedKey(inFile: path)
  }

  private static func stamp(_ path: String) -> Stamp? {
    var info = stat()
    guard stat(path, &info) == 0, info.st_size <= Self.largestFile || info.st_mode & S_IFMT == S_IFDIR else {
      return nil
    }
    return Stamp(
      device: UInt64(info.st_dev), inode: UInt64(info.st_ino), size: Int64(info.st_size),
      seconds: info.st_mtim.tv_sec, nanoseconds: info.st_mtim.tv_nsec)
  }
}
