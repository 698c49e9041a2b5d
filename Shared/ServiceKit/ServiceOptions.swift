public import ArgumentParser
import Logging

/// The options that every service's command line has.
///
/// All are optional: a default here would beat the environment and the configuration file.
public struct ServiceOptions: ParsableArguments {
  @Option(help: "JSON file with settings of one or more services.")
  public var config: String?

  @Option(
    name: .customLong("set"),
    help: "One setting, e.g. --set ingest.rpc=tcp://127.0.0.1:7401. May be repeated.")
  public var settings: [String] = []

  @Flag(help: "Print every setting with its default and meaning, and exit.")
  public var listSettings = false

  public init() {}
}

/// Settings that every service has.
public enum CommonSettings {
  public static let logLevel = Setting(
    "log.level", default: "info", help: "Least level that is logged.",
    allowed: "one of trace, debug, info, notice, warning, error, critical",
    where: { Logger.Level(rawValue: $0) != nil })
  public static let keys = Setting(
    "bus.keys", default: "",
    help:
      "Folder of this process's key pair and the authorized keys; empty for none, which only loopback and ipc allow."
  )
  public static let parent = Setting(
    "process.parent", default: 0, help: "Process that started this one and whose end ends it; 0 for none.",
    allowed: "at least 0", where: { $0 >= 0 })

  public static let all: [any AnySetting] = [logLevel, keys, parent]
}
