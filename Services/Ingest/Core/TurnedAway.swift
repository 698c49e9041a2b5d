import Schemas

/// Streams whose trial was turned away, so that what still comes of them is passed over. A value.
///
/// Names come from outside, so that no more than ``maximum`` are remembered: the oldest goes of the robot that has most.
struct TurnedAway: Sendable {
  static let maximum = 1_024
  /// Of a name; a valid one is shorter, and longer ones are all refused for the same reason.
  private static let nameBytes = 65

  private struct Key: Hashable {
    var robot: String
    var trialID: String

    init(_ robot: String, _ trialID: String) {
      self.robot = Self.cut(robot)
      self.trialID = Self.cut(trialID)
    }

    private static func cut(_ name: String) -> String {
      name.utf8.count <= TurnedAway.nameBytes
        ? name : String(decoding: name.utf8.prefix(TurnedAway.nameBytes), as: UTF8.self)
    }
  }

  /// Oldest first.
  private var order: [Key] = []
  private var keys: Set<Key> = []
  /// How many each robot has.
  private var counts: [String: Int] = [:]

  var count: Int { self.order.count }

  func contains(robot: String, trialID: String) -> Bool {
    !self.keys.isEmpty && self.keys.contains(Key(robot, trialID))
  }

  mutating func insert(robot: String, trialID: String) {
    let key = Key(robot, trialID)
    guard self.keys.insert(key).inserted else { return }
    self.order.append(key)
    self.counts[key.robot, default: 0] += 1
    guard self.order.count > Self.maximum else { return }
    let most = self.counts.values.max() ?? 0
    guard let oldest = self.order.firstIndex(where: { self.counts[$0.robot] == most }) else { return }
    self.remove(at: oldest)
  }

  mutating func remove(robot: String, trialID: String) {
    let key = Key(robot, trialID)
    guard self.keys.contains(key), let index = self.order.firstIndex(of: key) else { return }
    self.remove(at: index)
  }

  private mutating func remove(at index: Int) {
    let key = self.order.remove(at: index)
    self.keys.remove(key)
    let left = (self.counts[key.robot] ?? 1) - 1
    self.counts[key.robot] = left > 0 ? left : nil
  }
}
