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
    /// Held because the control program never began its trial, which nobody was told yet.
    case neverBegun = 3
  }

  var isHeld: Bool { self.state == .held || self.state == .neverBegun }

  /// As the caller gave it, less the seeds whose trials are filed; only its id once all are.
  private(set) var order: WorkOrder
  private(set) var state: State

  init(order: WorkOrder, state: State) {
    self.order = order.seeds.isEmpty ? WorkOrder(orderID: order.orderID) : order
    self.state = state
  }

  var id: String { self.order.orderID }

  /// What it has in the file.
  var bytes: Int { KeptOrders.headerBytes + self.order.serializedBytes().count }

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

  /// What becomes of it where it may have been let go before the robot had to stand still.
  var heldForSure: KeptOrder {
    KeptOrder(order: self.order, state: self.seeds.isEmpty || self.isHeld ? self.state : .held)
  }

  /// What becomes of it where the control program never begins its trial.
  var neverBegun: KeptOrder { KeptOrder(order: self.order, state: .neverBegun) }

  /// What becomes of it once somebody was told that it was never begun.
  var told: KeptOrder {
    KeptOrder(order: self.order, state: self.state == .neverBegun ? .held : self.state)
  }

  /// What becomes of it where the robot may work again.
  var released: KeptOrder {
    KeptOrder(order: self.order, state: self.state == .afterwards ? .waiting : self.state)
  }

  /// What becomes of it where somebody says, besides, to go on with what is held.
  var freed: KeptOrder { KeptOrder(order: self.order, state: .waiting) }
}

/// The file of orders.
struct KeptOrders {
  /// Those after which the orders are as they are; see ``Standing``. 0 in what an older agent left.
  var standstills: UInt64 = 0
  var orders: [KeptOrder] = []

  /// What is left of them where the robot was told `now` since they were written, or after it.
  ///
  /// A standstill that they do not know of was not written to them, because the agent ended or its disk refused it: then nobody
  /// can say what was resumed since, and all are held.
  func left(_ now: Standing) -> [KeptOrder] {
    guard now.standstills <= self.standstills else { return self.orders.map(\.heldForSure) }
    return self.orders.map { now.obstacle != nil ? $0.held : $0.released }
  }
}

// MARK: As a file

extension KeptOrders {
  /// Bytes of a record in front of its content.
  fileprivate static let headerBytes = 5
  /// A file larger than this is none of ours, nor of an earlier agent, whose orders had no bound of bytes.
  private static let largestFile = 64 << 20

  /// What a record has in place of a state that is no order but the standstills, 8 bytes.
  private static let standstillsKind: UInt8 = 255

  /// For each order the message's length as 4 bytes, least significant first, its state as a byte, and the message; before
  /// them, in the same form, the standstills.
  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    func append(_ state: UInt8, _ content: [UInt8]) {
      withUnsafeBytes(of: UInt32(content.count).littleEndian) { bytes.append(contentsOf: $0) }
      bytes.append(state)
      bytes.append(contentsOf: content)
    }
    append(Self.standstillsKind, withUnsafeBytes(of: self.standstills.littleEndian) { Array($0) })
    for kept in self.orders { append(kept.state.rawValue, kept.order.serializedBytes()) }
    return bytes
  }

  /// Nil where the bytes are no whole number of orders.
  static func decode(_ bytes: [UInt8]) -> KeptOrders? {
    var kept = KeptOrders()
    var rest = bytes[...]
    while !rest.isEmpty {
      guard rest.count >= Self.headerBytes else { return nil }
      let kind = rest[rest.startIndex + 4]
      let length = rest.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
      rest = rest.dropFirst(Self.headerBytes)
      guard length <= rest.count else { return nil }
      let content = rest.prefix(length)
      rest = rest.dropFirst(length)
      if kind == Self.standstillsKind, length == 8 {
        kept.standstills = content.reversed().reduce(0) { $0 << 8 | UInt64($1) }
      } else if let state = KeptOrder.State(rawValue: kind),
        let order = try? WorkOrder(serializedBytes: Array(content))
      {
        kept.orders.append(KeptOrder(order: order, state: state))
      } else {
        return nil
      }
    }
    return kept
  }

  /// What an earlier agent left. A file of anything else, or that cannot be read, is set aside, see ``DamagedFiles``.
  /// - Throws: ``RobotError`` `.diskFailed`.
  static func read(
    _ path: String, on disk: any Disk, runtime: Runtime
  ) throws(RobotError) -> KeptOrders {
    do throws(StorageError) {
      let bytes = try CheckedFile.read(path, limit: Self.largestFile, on: disk)
      if let kept = Self.decode(bytes) { return kept }
    } catch {
      if error.code == .notFound { return KeptOrders() }
    }
    try onDisk { () throws(StorageError) in
      try DamagedFiles.setAside(path, number: runtime.unixNanos(), on: disk)
    }
    return KeptOrders()
  }
}
