public import Foundation

/// Values of settings, from the command line, the environment, a JSON file and defaults, in that order.
public struct ServiceConfiguration: Sendable {
  private struct Layer: Sendable {
    var source: String
    /// Text by full key.
    var values: [String: String]
  }

  private let layers: [Layer]

  /// - Parameters:
  ///   - service: name of the service that asks; the first word of its own keys.
  ///   - commandLine: `key=value` texts, as from `--set`.
  ///   - environment: only names that begin with `FLEETLOOP_` are looked at.
  ///   - file: a JSON object of objects, `{"ingest": {"rpc": "…"}}`; nil for none.
  ///   - known: every setting that may occur. The file may hold keys of other services, so that one file can serve a whole
  ///     fleet; unknown keys of this one are refused.
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
    layers.append(
      Layer(source: "the environment", values: keys.compactMapValues { environment[$0] }))
    if let file {
      let values = try Self.read(file)
      for key in values.keys.sorted() where Self.service(key) == service && keys[key] == nil {
        throw ServiceError(.invalidConfiguration, Self.unknown(key, from: file, known: keys.keys))
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
