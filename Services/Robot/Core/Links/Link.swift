package import Bus

/// One way to the fleet: a name, and where the services are when it is used.
package struct Link: Sendable {
  /// Services that a robot talks to; nil where it does without.
  package struct Endpoints: Sendable {
    package var ingestRPC: Endpoint?
    package var ingestTrials: Endpoint?
    package var ingestPublications: Endpoint?
    package var inferenceRPC: Endpoint?
    package var monitorRPC: Endpoint?
    package var monitorTelemetry: Endpoint?
    package var monitorPublications: Endpoint?
    package var rolloutRPC: Endpoint?
    package var rolloutPublications: Endpoint?

    package init() {}
  }

  /// "wired", "wifi" or "4g"; any word will do.
  package var name: String
  package var endpoints: Endpoints

  package init(name: String, endpoints: Endpoints) {
    self.name = name
    self.endpoints = endpoints
  }

  /// Reads "wired=10.0.0.2, wifi=10.1.0.2" and puts each host in the place of `{link}` in every endpoint.
  /// - Parameters:
  ///   - text: names and hosts, best link first.
  ///   - templates: endpoints by field; empty for a service that is not there.
  /// - Throws: ``RobotError`` `.invalidConfiguration`, ``BusError`` for an endpoint that is none.
  package static func parse(
    _ links: [String], templates: [(WritableKeyPath<Endpoints, Endpoint?>, String)]
  ) throws -> [Link] {
    let parsed = try (links.isEmpty ? ["wired="] : links).map { text in
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, !parts[0].isEmpty else {
        throw RobotError(
          .invalidConfiguration,
          "'\(text)' is no link. Write NAME=HOST, e.g. wired=10.0.0.2,4g=fleet.example.")
      }
      var endpoints = Endpoints()
      for (field, template) in templates where !template.isEmpty {
        guard !parts[1].isEmpty || !template.contains("{link}") else {
          throw RobotError(.invalidConfiguration, "\(template) needs a host; set robot.links to NAME=HOST.")
        }
        endpoints[keyPath: field] = try Endpoint(template.replacing("{link}", with: String(parts[1])))
      }
      return Link(name: String(parts[0]), endpoints: endpoints)
    }
    guard Set(parsed.map(\.name)).count == parsed.count else {
      throw RobotError(.invalidConfiguration, "robot.links names a link twice.")
    }
    return parsed
  }
}
