/// A type whose values can be written in a file, an environment variable or on a command line.
public protocol SettingValue: Sendable {
  init?(settingText: String)
  var settingText: String { get }
  /// A word for error messages, e.g. "a whole number".
  static var settingKind: String { get }
}

/// One thing that can be configured: its key, what it means, its default and what is allowed.
public struct Setting<Value: SettingValue>: AnySetting {
  /// Lower-case words joined by dots, the service's name first: "ingest.rpc".
  public let key: String
  public let defaultValue: Value
  public let help: String
  private let allowed: (@Sendable (Value) -> Bool)?
  private let allowedText: String

  /// - Parameters:
  ///   - allowedText: says what `allowed` demands, e.g. "between 1 and 64".
  public init(
    _ key: String, default defaultValue: Value, help: String,
    allowed allowedText: String = "", where allowed: (@Sendable (Value) -> Bool)? = nil
  ) {
    self.key = key
    self.defaultValue = defaultValue
    self.help = help
    self.allowedText = allowedText
    self.allowed = allowed
  }

  public var defaultText: String { self.defaultValue.settingText }

  /// Reads a value.
  /// - Throws: ``ServiceError`` `.invalidConfiguration`, naming `source`, where the text is no such value or is not allowed.
  func parse(_ text: String, from source: String) throws(ServiceError) -> Value {
    guard let value = Value(settingText: text) else {
      throw ServiceError(
        .invalidConfiguration,
        "\(self.key) is '\(text)' in \(source); it must be \(Value.settingKind). \(self.help)")
    }
    guard self.allowed?(value) ?? true else {
      throw ServiceError(
        .invalidConfiguration,
        "\(self.key) is '\(text)' in \(source); it must be \(self.allowedText). \(self.help)")
    }
    return value
  }
}

/// A setting of any type, for lists of them.
public protocol AnySetting: Sendable {
  var key: String { get }
  var help: String { get }
  var defaultText: String { get }
}

extension AnySetting {
  /// `ingest.rpc` is `FLEETLOOP_INGEST_RPC`; `monitor.offline-seconds` is `FLEETLOOP_MONITOR_OFFLINE_SECONDS`.
  public var environmentName: String {
    "FLEETLOOP_" + String(self.key.uppercased().map { $0 == "." || $0 == "-" ? "_" : $0 })
  }
}

extension String: SettingValue {
  public init?(settingText: String) { self = settingText }
  public var settingText: String { self }
  public static var settingKind: String { "text" }
}

extension Int: SettingValue {
  public init?(settingText: String) { self.init(settingText) }
  public var settingText: String { String(self) }
  public static var settingKind: String { "a whole number" }
}

extension Double: SettingValue {
  public init?(settingText: String) {
    guard let value = Double(settingText), value.isFinite else { return nil }
    self = value
  }
  public var settingText: String { String(self) }
  public static var settingKind: String { "a number" }
}

extension Bool: SettingValue {
  public init?(settingText: String) { self.init(settingText) }
  public var settingText: String { String(self) }
  public static var settingKind: String { "'true' or 'false'" }
}

extension Array: SettingValue where Element == String {
  public init?(settingText: String) {
    self = settingText.split(separator: ",").map { String($0.trimmingPrefix { $0 == " " }) }
  }
  public var settingText: String { self.joined(separator: ",") }
  public static var settingKind: String { "words with commas between" }
}
