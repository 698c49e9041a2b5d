@testable import Bus
import Foundation
import GRPCCore
import Schemas
import Testing

/// `proto/BUS.md` is what somebody who has no Swift writes a client from: what it says of tables and numbers is so.
@Suite struct DocumentTests {
  private let text: String

  init() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    self.text = try String(contentsOf: root.appending(path: "proto/BUS.md"), encoding: .utf8)
  }

  /// Cells of the rows whose first one begins so, without backticks.
  private func rows(beginning: (String) -> Bool) -> [[String]] {
    self.text.split(separator: "\n").filter { $0.hasPrefix("| ") }
      .map { line in
        line.split(separator: "|").map {
          $0.replacingOccurrences(of: "`", with: "").trimmingCharacters(in: .whitespaces)
        }
      }
      .filter { beginning($0[0]) }
  }

  @Test func `the table of topics has all that a role may publish, and messages that there are`() throws {
    let rows = self.rows { $0.contains("/<") }
    var documented: [Role: Set<String>] = [:]
    for row in rows {
      let name = row[2].split(separator: "'")[0]
      let role = try #require(Role(rawValue: String(name)), "\(row[2])")
      documented[role, default: []].insert(String(row[0].prefix { $0 != "/" }))
      #expect(SchemaRegistry.fileDescriptorSet(for: "fleetloop.v1.\(row[1])") != nil, "\(row[1])")
    }
    let allowed = AccessPolicy.fleet.topics.mapValues(Set.init).filter { !$0.value.isEmpty }
    #expect(documented == allowed)
  }

  @Test func `priority methods are those that it names, and there are such methods`() throws {
    let begin = try #require(self.text.range(of: "64 places of their own"))
    let paragraph = try #require(self.text[..<begin.lowerBound].components(separatedBy: "\n\n").last)
    let known = AccessPolicy.priorityMethods
    let named = Set(known.map { $0.replacingOccurrences(of: "fleetloop.v1.", with: "") })
    #expect(!named.isEmpty)
    for method in named { #expect(paragraph.contains("`\(method)`"), "\(method)") }
    let services = [Health.Method.descriptors, RobotService.Method.descriptors].flatMap { $0 }
    #expect(known.isSubset(of: services.map(\.fullyQualifiedMethod)))
    // Where a robot is told to stand still, and where one sees that it does.
    #expect(known.contains(RobotService.Method.Stop.descriptor.fullyQualifiedMethod))
    #expect(known.contains(RobotService.Method.GetStatus.descriptor.fullyQualifiedMethod))
  }

  @Test func `limits are those of the code`() {
    let limits = CallLimits()
    for number in [
      "\(limits.maxMessageBytes >> 20) MiB unless configured",
      "\(limits.maxOpenCallsPerPeer), and as many of",
      "of \(limits.maxOpenCalls * 3 / 4) as are left", "(\(limits.maxOpenCalls), the last quarter",
      "unread at a server (\(limits.maxUnreadBytesPerPeer >> 20) MiB;",
      "or all peers (\(limits.maxUnreadBytes >> 20) MiB, the last eighth for",
      "first \(FlowControl.initialCredit >> 10) KiB of a peer",
      "\(limits.reservedCalls) places of their own, \(limits.reservedCallsPerPeer) a peer",
      "\(limits.maxQueuedBytesPerPeer >> 20) MiB (of all peers: \(limits.maxQueuedBytes >> 20) MiB)",
      "for \(limits.idleLimit.components.seconds / 60) minutes",
      "one that waits \(limits.idleLimit.components.seconds) s for credit",
      "each for \(limits.reservedTime.components.seconds) s at most",
    ] {
      #expect(self.text.contains(number), "\(number)")
    }
  }
}
