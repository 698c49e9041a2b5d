public import Foundation

/// Values of settings, from the command line, the environment, a JSON file and defaults, in that order.
public struct ServiceConfiguration: Sendable {
  private struct Layer: Sendable {
    var source: String
    /// Text by full key.
    var values: [String: String]
  }

  /// Sections of the processes of a fleet. One file and one environment serve all of them, so that each process meets the
  /// others' settings; what is in no section is a slip of the pen. "fleet" is what `fleet up` notes for `fleet`.
  static let processes = ["ingest", "training", "inference", "monitor", "rollout", "robot", "fleet"]
  /// Variables with our prefix that are no settings: `fleet`'s, the build's and the tests' own.
  static let otherVariables: Set = [
    "FLEETLOOP_DATA", "FLEETLOOP_PYTHON", "FLEETLOOP_ROOT", "FLEETLOOP_TESTS", "FLEETLOOP_DESCRIPTORS",
  ]

  private let layers: [Layer]

  /// - Parameters:
  ///   - service: name of the service that asks; the first word of its own keys.
  ///   - commandLine: `key=value` texts, as from `--set`.
  ///   - environment: only names that begin with `FLEETLOOP_` are looked at; of those, unknown ones of this service, or of no
  ///     process of a fleet, are refused.
  ///   - file: a JSON object of objects, `{"ingest": {"rpc": "…"}}`; nil for none.
  ///   - known: every setting that may occur. The file may hold keys of other services, so that one file can serve a whole
  ///     fleet; unknown keys of this one, and sections of no process of a fleet, are refused.
  /// - Throws: ``ServiceError`` `.invalidConfiguration` for an unknown key, `.fileSystem` for a file that cannot be read.
  public init(
    service: String,
    commandLine: [String] = [],
    environment: [String: String] = ProcessInfo.processInfo.environment,
    file: String? = nil,
    known: [any AnySetting]
  ) throws {
    let keys = Dictionary(known.map { ($0.key, $0.environmentName) }, uniquingKeysWith: { first, _ in first })
    var layers: [Layer] = []
    var given: [String: String] = [:]
    for text in commandLine {
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2 else {
        throw ServiceError(.invalidConfiguration, "'--set \(text)' is not key=value.")
      }
      guard keys[parts[0]] != nil else {
        throw ServiceError(
          .invalidConfiguration, Self.unknown(parts[0], from: "the command line", known: keys.keys))
      }
      given[parts[0]] = parts[1]
    }
    layers.append(Layer(source: "the command line", values: given))
    try Self.checkEnvironment(environment, of: service, known: known)
    layers.append(
      Layer(source: "the environment", values: keys.compactMapValues { environment[$0] }))
    if let file {
      let values = try Self.read(file)
      let own = Self.ownSections(of: service, known: known)
      for key in values.keys.sorted() where keys[key] == nil {
        let section = String(Self.service(key))
        guard own.contains(section) || !Self.processes.contains(section) else { continue }
        throw ServiceError(
          .invalidConfiguration,
          own.contains(section)
            ? Self.unknown(key, from: file, known: keys.keys)
            : "Unknown section '\(section)' in \(file). Known: "
              + own.union(Self.processes).sorted().joined(separator: ", "))
      }
      layers.append(Layer(source: file, values: values))
    }
    self.layers = layers
  }

  /// The value of a setting.
  /// - Throws: ``ServiceError`` `.invalidConfiguration` for text that is no such value.
  public func callAsFunction<Value>(_ setting: Setting<Value>) throws(ServiceError) -> Value {
    for layer in self.layers {
      if let text = layer.values[setting.key] { return try setting.parse(text, from: layer.source) }
    }
    return setting.defaultValue
  }

  /// The service's own section, and those of settings that every service has: "log", "bus", "process".
  private static func ownSections(of service: String, known: [any AnySetting]) -> Set<String> {
    Set(known.map { String(Self.service($0.key)) }).subtracting(Self.processes).union([service])
  }

  private static func checkEnvironment(
    _ environment: [String: String], of service: String, known: [any AnySetting]
  ) throws(ServiceError) {
    let names = Set(known.map(\.environmentName))
    let others = Set(Self.processes).subtracting([service])
    for name in environment.keys.sorted()
    where name.hasPrefix("FLEETLOOP_") && !names.contains(name) && !Self.otherVariables.contains(name)
      && !others.contains(where: { name.hasPrefix("FLEETLOOP_\($0.uppercased())_") })
    {
      throw ServiceError(
        .invalidConfiguration,
        "Unknown setting \(name) in the environment. Known: \(names.sorted().joined(separator: ", "))")
    }
  }

  private static func service(_ key: String) -> Substring { key.prefix { $0 != "." } }

  private static func unknown(_ key: String, from place: String, known: some Sequence<String>) -> String {
    let near = known.filter { self.service($0) == self.service(key) }.sorted().joined(separator: ", ")
    return "Unknown setting '\(key)' from \(place). Known: \(near)"
  }

  /// Flattens `{"a": {"b": 1}}` to `["a.b": "1"]`.
  private static func read(_ path: String) throws -> [String: String] {
    let object: Any
    do {
      object = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: path)))
    } catch {
      throw ServiceError(.fileSystem, "Cannot read the configuration file \(path) as JSON.", cause: error)
    }
    guard let services = object as? [String: [String: Any]] else {
      throw ServiceError(
        .invalidConfiguration, "\(path) must be an object of objects, e.g. {\"ingest\": {\"rpc\": \"…\"}}.")
    }
    var values: [String: String] = [:]
    for (service, settings) in services {
      for (name, value) in settings {
        switch value {
        case let text as String: values["\(service).\(name)"] = text
        case let number as NSNumber:
          values["\(service).\(name)"] =
            Self.isBoolean(number) ? String(number.boolValue) : number.stringValue
        case let words as [String]: values["\(service).\(name)"] = words.joined(separator: ",")
        default:
          throw ServiceError(
            .invalidConfiguration,
            "\(service).\(name) in \(path) must be text, a number, true, false or a list of texts.")
        }
      }
    }
    return values
  }

  private static func isBoolean(_ number: NSNumber) -> Bool { String(cString: number.objCType) == "c" }
}
