import Bus
import Foundation
import TestSupport
import Testing

@testable import RobotCore

/// Where the pieces of a test's fleet meet: sockets in a folder of their own.
struct Sockets: Sendable {
  let folder: TemporaryFolder

  init() throws { self.folder = try TemporaryFolder() }

  func text(_ name: String) -> String { "ipc://\(self.folder.path)/\(name)" }
  func endpoint(_ name: String) throws -> Endpoint { try Endpoint(self.text(name)) }

  /// Endpoints of all services, under the names of the settings.
  func link() throws -> Link {
    var endpoints = Link.Endpoints()
    endpoints.ingestRPC = try self.endpoint("ingest.rpc")
    endpoints.ingestTrials = try self.endpoint("ingest.trials")
    endpoints.ingestPublications = try self.endpoint("ingest.publications")
    endpoints.inferenceRPC = try self.endpoint("inference.rpc")
    endpoints.monitorRPC = try self.endpoint("monitor.rpc")
    endpoints.monitorTelemetry = try self.endpoint("monitor.telemetry")
    endpoints.monitorPublications = try self.endpoint("monitor.publications")
    endpoints.rolloutRPC = try self.endpoint("rollout.rpc")
    endpoints.rolloutPublications = try self.endpoint("rollout.publications")
    return Link(name: "wired", endpoints: endpoints)
  }
}

/// A program that a test starts. Killed, at the latest, when it is let go.
final class Child: Sendable {
  private let process = Process()
  private let output: String

  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  /// - Throws: ``RobotError`` with what to do where the program is missing.
  init(_ program: String, _ arguments: [String], output: String, missing: String) throws {
    guard FileManager.default.isExecutableFile(atPath: program) else {
      throw RobotError(.invalidConfiguration, "\(program) is missing: \(missing)")
    }
    self.output = output
    _ = FileManager.default.createFile(atPath: output, contents: nil)
    let file = try FileHandle(forWritingTo: URL(filePath: output))
    self.process.executableURL = URL(filePath: program)
    self.process.arguments = arguments
    self.process.currentDirectoryURL = URL(filePath: Self.root)
    self.process.standardOutput = file
    self.process.standardError = file
    try self.process.run()
  }

  deinit { if self.process.isRunning { Foundation.kill(self.process.processIdentifier, SIGKILL) } }

  /// A program of deploy/robots or Tests.
  static func python(_ arguments: [String], output: String) throws -> Child {
    let python = ProcessInfo.processInfo.environment["FLEETLOOP_PYTHON"] ?? Self.root + "/.python/bin/python"
    return try Child(python, arguments, output: output, missing: "run deploy/setup.")
  }

  /// A built executable, which lies beside the test bundle.
  static func built(_ name: String, _ arguments: [String], output: String) throws -> Child {
    let folder = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
    let inBuild = folder.path.contains(".build") ? folder.path : Self.root + "/.build/debug"
    return try Child("\(inBuild)/\(name)", arguments, output: output, missing: "build it with swift build.")
  }

  var text: String { (try? String(contentsOfFile: self.output, encoding: .utf8)) ?? "" }
  var isRunning: Bool { self.process.isRunning }
  /// Nil while it runs.
  var status: Int32? { self.process.isRunning ? nil : self.process.terminationStatus }

  func signal(_ number: Int32) { Foundation.kill(self.process.processIdentifier, number) }

  func wait(within limit: Duration = .seconds(60)) async throws {
    try await eventually("the program ends; it said: \(self.text.suffix(2_000))", within: limit) {
      !self.process.isRunning
    }
  }
}
