import ArgumentParser
import Bus
import Foundation
public import Logging
public import ServiceLifecycle
import UnixSignals

/// What every service is given by its process.
public struct ServiceContext: Sendable {
  /// The service's name: "ingest".
  public let name: String
  public let configuration: ServiceConfiguration
  public let logger: Logger
  public let metrics: MetricsRegistry
  /// What the service cannot do without.
  public let vitals: Vitals
}

/// What a service's `main` hands back: the parts to run, and what to say once they are up.
public struct ServiceParts: Sendable {
  /// Started in order, stopped in reverse order.
  public var services: [any Service]
  /// Words for the line on standard output that tells a supervisor that the service is up, e.g. ["rpc": "ipc:///…"].
  public var endpoints: [(name: String, endpoint: String)]

  public init(_ services: [any Service], endpoints: [(name: String, endpoint: String)] = []) {
    self.services = services
    self.endpoints = endpoints
  }
}

/// Runs one service as a process: settings, logging, signals, clean end.
public enum ServiceProcess {
  /// Time that parts have to end after SIGTERM or SIGINT before they are cancelled.
  public static let gracePeriod: Duration = .seconds(5)

  /// Reads settings, builds the parts, prints `READY name endpoint=…` on standard output and runs until a signal or a failure.
  /// - Parameters:
  ///   - settings: the service's own settings; the common ones are added.
  ///   - reusesLargeBlocks: it frees blocks above 4 MiB and makes them again all the time, as LibTorch does, so that malloc had
  ///     better keep them. Others give them back at once: a burst of large messages should leave nothing behind.
  ///   - build: makes the parts. Sockets are bound and files opened here, so that a failure is told before READY.
  /// - Throws: what `build` or a part throws; `main` prints it and ends with status 1, or 64 for a wrong setting.
  public static func run(
    _ name: String, options: ServiceOptions, settings: [any AnySetting],
    reusesLargeBlocks: Bool = false,
    build: (ServiceContext) async throws -> ServiceParts
  ) async throws {
    let known = settings + CommonSettings.all
    if options.listSettings {
      for setting in known {
        print("\(setting.key)\t\(setting.environmentName)\t\(setting.defaultText)\t\(setting.help)")
      }
      return
    }
    if !reusesLargeBlocks { HeapTrimming.keepNoLargeBlocks() }
    // Each robot takes three descriptors or so; the usual soft limit is for programs that still use select().
    DescriptorLimit.raise()
    // A peer that goes away must end a write with an error, not the process.
    signal(SIGPIPE, SIG_IGN)
    let (context, parts) = try await Self.refusingWrongUsage {
      let configuration = try ServiceConfiguration(
        service: name, commandLine: options.settings, file: options.config, known: known)
      let level = Logger.Level(rawValue: try configuration(CommonSettings.logLevel)) ?? .info
      LoggingSystem.bootstrap { LineLogHandler(label: $0, level: level) }
      let context = ServiceContext(
        name: name, configuration: configuration, logger: Logger(label: name), metrics: MetricsRegistry(),
        vitals: Vitals())
      return (context, try await build(context))
    }
    let logger = context.logger
    var services = parts.services + [HeapTrimming()]
    let parent = Int32(clamping: try context.configuration(CommonSettings.parent))
    if parent > 0 { services.append(ParentWatch(parent: parent, logger: logger)) }
    var group = ServiceGroupConfiguration(
      services: services.map { .init(service: $0, failureTerminationBehavior: .gracefullyShutdownGroup) },
      gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
    group.maximumGracefulShutdownDuration = Self.gracePeriod
    let endpoints = parts.endpoints.map { " \($0.name)=\($0.endpoint)" }.joined()
    try? FileHandle.standardOutput.write(contentsOf: Data("READY \(name)\(endpoints)\n".utf8))
    logger.info("service started", metadata: ["process.id": "\(getpid())"])
    do {
      try await ServiceGroup(configuration: group).run()
    } catch is CancellationError {
      // How parts end that wait for something when the signal comes; the group has waited for all of them.
    }
    logger.info("service ended")
  }

  /// A wrong setting is wrong usage, as a wrong option is.
  private static func refusingWrongUsage<Result>(_ body: () async throws -> Result) async throws -> Result {
    do {
      return try await body()
    } catch let error as ServiceError where error.code == .invalidConfiguration {
      try? FileHandle.standardError.write(contentsOf: Data("Error: \(error.message)\n".utf8))
      throw ExitCode.validationFailure
    }
  }
}

/// Ends the process when its parent is gone, so that a killed `fleet up` leaves nothing behind.
struct ParentWatch: Service {
  /// As the parent said: to ask for it here would be too late where it was killed in the meantime.
  let parent: Int32
  let logger: Logger

  func run() async throws {
    try await cancelWhenGracefulShutdown {
      while getppid() == self.parent { try await Task.sleep(for: .seconds(1)) }
      self.logger.warning("parent process is gone; ending")
      kill(getpid(), SIGTERM)
    }
  }
}
