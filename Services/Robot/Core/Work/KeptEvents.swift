import Foundation
import Schemas
import Storage

/// The safety events that the monitor has not confirmed yet, in a file that outlives the agent: what they tell of, lost work
/// say, is not found again by the next one.
struct KeptEvents: Sendable {
  static let fileName = "safety.json"

  private let file: KeptFile<[Data]>
  private let robot: String

  /// - Parameter robot: the robot's name; events of another are left out: the monitor would refuse them for ever.
  init(folder: String, robot: String, disk: any Disk) {
    self.file = KeptFile(path: "\(folder)/\(Self.fileName)", disk: disk)
    self.robot = robot
  }

  /// What earlier agents left, oldest first, each under the session of its agent. A file that cannot be read is set aside, see
  /// ``DamagedFiles``.
  /// - Parameter number: tells a file that is set aside from others.
  /// - Returns: the events, and why there may have been more where the file could not even be set aside.
  func read(number: Int64) -> (events: [SafetyEvent], lost: String?) {
    switch self.file.read() {
    case .absent: return ([], nil)
    case .damaged(let why):
      do throws(StorageError) {
        try DamagedFiles.setAside(self.file.path, number: number, on: self.file.disk)
        return ([], nil)
      } catch {
        return ([], "\(why) It cannot be moved aside: \(error.message)")
      }
    case .value(let kept):
      let events = kept.compactMap { try? SafetyEvent(serializedBytes: Array($0)) }
      return (events.filter { $0.robot == self.robot && $0.session != 0 }, nil)
    }
  }

  /// - Throws: ``RobotError`` `.diskFailed`.
  func write(_ events: [SafetyEvent]) throws(RobotError) {
    try self.file.write(events.map { Data($0.serializedBytes()) })
  }
}
