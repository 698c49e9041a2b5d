import Schemas
import Storage

/// An order as the work queue keeps it.
struct KeptOrder: Sendable {
  enum State: UInt8 {
    /// Its trials are handed out in their turn.
    case waiting = 0
    /// It waited when the robot was stopped or found unhealthy, and is not done before somebody says so.
    case held = 1
    /// It was given to a robot that stood still, and is done once the robot may work again.
    case afterwards = 2
  }

  /// As the caller gave it, less the seeds whose trials are filed; only its id once all are.
  private(set) var order: WorkOrder
  private(set) var state: State

  init(order: WorkOrder, state: State) {
    self.order = order.seeds.isEmpty ? WorkOrder(orderID: order.orderID) : order
    self.state = state
  }

  var id: String { self.order.orderID }

  var seeds: [UInt64] {
    get { self.order.seeds }
    set {
      self.order.seeds = newValue
      if newValue.isEmpty { self.order = WorkOrder(orderID: self.id) }
    }
  }

  /// What becomes of it where the robot has to stand still.
  var held: KeptOrder {
    KeptOrder(order: self.order, state: self.state == .waiting && !self.seeds.isEmpty ? .held : self.state)
  }

  /// What becomes of it where the robot may work again.
  var released: KeptOrder {
    KeptOrder(order: self.order, state: self.state == .afterwards ? .waiting : self.state)
  }

  /// What becomes of it where somebody says, besides, to go on with what is held.
  var freed: KeptOrder { KeptOrder(order: self.order, state: .waiting) }
}

// MARK: As a file

extension KeptOrder {
  private static let headerBytes = 5
  /// A file larger than this is none of ours, nor of an earlier agent, whose orders had no bound of bytes.
  private static let largestFile = 64 << 20

  /// What it has in the file.
  var bytes: Int { Self.headerBytes + self.order.serializedBytes().count }

  /// For each order the message's length as 4 bytes, least significant first, its state as a byte, and the message.
  static func encode(_ orders: [KeptOrder]) -> [UInt8] {
    var bytes: [UInt8] = []
    for kept in orders {
      let message = kept.order.serializedBytes()
      withUnsafeBytes(of: UInt32(message.count).littleEndian) { bytes.append(contentsOf: $0) }
      bytes.append(kept.state.rawValue)
      bytes.append(contentsOf: message)
    }
    return bytes
  }

  /// Nil where the bytes are no whole number of orders.
  static func decode(_ bytes: [UInt8]) -> [KeptOrder]? {
    var orders: [KeptOrder] = []
    var rest = bytes[...]
    while !rest.isEmpty {
      guard rest.count >= Self.headerBytes, let state = State(rawValue: rest[rest.startIndex + 4]) else {
        return nil
      }
      let length = rest.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
      rest = rest.dropFirst(Self.headerBytes)
      guard length <= rest.count, let order = try? WorkOrder(serializedBytes: Array(rest.prefix(length)))
      else { return nil }
      orders.append(KeptOrder(order: order, state: state))
      rest = rest.dropFirst(length)
    }
    return orders
  }

  /// What an earlier agent left. A file of anything else is set aside, see ``DamagedFiles``.
  /// - Throws: ``RobotError`` `.diskFailed`.
  static func read(
    _ path: String, on disk: any Disk, runtime: Runtime
  ) throws(RobotError) -> [KeptOrder] {
    do throws(StorageError) {
      let bytes = try CheckedFile.read(path, limit: Self.largestFile, on: disk)
      if let orders = Self.decode(bytes) { return orders }
    } catch {
      switch error.code {
      case .notFound: return []
      case .corrupt, .tooLarge: break
      default: throw RobotError(.diskFailed, error.message, cause: error)
      }
    }
    try onDisk { () throws(StorageError) in
      try DamagedFiles.setAside(path, number: runtime.unixNanos(), on: disk)
    }
    return []
  }
}
