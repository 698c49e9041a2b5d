/// What goes wrong with a disk, each as a chance per operation.
public struct DiskFaults: Sendable {
  /// Also of making a folder.
  public var open = 0.0
  public var read = 0.0
  /// A write that fails after some of its bytes.
  public var write = 0.0
  public var truncate = 0.0
  /// A sync that fails. As on Linux, what it was to write is then taken for written: the next sync succeeds without it.
  public var synchronize = 0.0
  public var synchronizeFolder = 0.0
  public var move = 0.0
  public var remove = 0.0
  /// The process dies, or the power goes, just before or after an operation.
  public var death = 0.0

  public init() {}
}
