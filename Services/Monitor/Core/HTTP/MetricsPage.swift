/// What a service answered when it was asked for its metrics.
package struct ServiceMetrics: Sendable, Hashable {
  /// "ingest", "training" and so on.
  package var service: String
  /// Prometheus text exposition format 0.0.4; nil where it did not answer.
  package var text: String?

  package init(service: String, text: String?) {
    self.service = service
    self.text = text
  }
}

/// One Prometheus page of many: the monitor's own series as they are, those of other services with a label that names them.
///
/// The format wants each metric's HELP and TYPE once and its series together, so pages cannot just be joined.
struct MetricsPage: Sendable {
  private struct Family {
    var comments: [Substring] = []
    var samples: [String] = []
  }

  private var families: [Substring: Family] = [:]

  init(own: String, others: [ServiceMetrics]) {
    self.add(own, service: nil)
    for other in others { self.add(other.text ?? "", service: other.service) }
    if !others.isEmpty {
      self.families["fleetloop_up"] = Family(
        comments: [
          "# HELP fleetloop_up Whether the service answered when it was asked last.",
          "# TYPE fleetloop_up gauge",
        ],
        samples: others.map { #"fleetloop_up{service="\#($0.service)"} \#($0.text == nil ? 0 : 1)"# })
    }
  }

  /// The page, metrics in the order of their names.
  var text: String {
    self.families.sorted { $0.key < $1.key }.map { _, family in
      (family.comments.map(String.init) + family.samples).map { $0 + "\n" }.joined()
    }.joined()
  }

  private mutating func add(_ text: String, service: String?) {
    // A sample belongs to the family that the last TYPE or HELP line named: a histogram's samples have longer names.
    var family: Substring = ""
    for line in text.split(separator: "\n") {
      if line.hasPrefix("# ") {
        let words = line.split(separator: " ", maxSplits: 3)
        guard words.count >= 3, ["HELP", "TYPE"].contains(words[1]) else { continue }
        family = words[2]
        let isKnown = self.families[family]?.comments.contains { $0.hasPrefix("# \(words[1]) ") } ?? false
        if !isKnown { self.families[family, default: Family()].comments.append(line) }
      } else {
        let name = line.prefix { $0 != "{" && $0 != " " }
        if !name.hasPrefix(family) || family.isEmpty { family = name }
        self.families[family, default: Family()].samples.append(Self.labelled(line, name, service))
      }
    }
  }

  private static func labelled(_ line: Substring, _ name: Substring, _ service: String?) -> String {
    guard let service else { return String(line) }
    let rest = line.dropFirst(name.count)
    let label = #"service="\#(service)""#
    return rest.hasPrefix("{") ? "\(name){\(label),\(rest.dropFirst())" : "\(name){\(label)}\(rest)"
  }
}
