import Bus
import Foundation
import Schemas
import Testing

/// Our client in another language, against our server: what `proto/BUS.md` promises to others.
@Suite("Python client", .timeLimit(.minutes(5)))
struct PythonClientTests {
  @Test("all four kinds of call, errors, a deadline and cancellation from Python")
  func calls() async throws {
    let server = try await EchoServer()
    let (status, output) = try await Self.run("bus_client_test.py", [server.endpoint.description])
    #expect(status == 0, "\(output)")
    #expect(output.contains("8 checks passed"), "\(output)")
    #expect(await server.log.waits(for: "cancelled"))
    await server.stop()
  }

  @Test("a client written from BUS.md alone, beside grpcio")
  func documentedClient() async throws {
    let server = try await EchoServer()
    let publisher = try Publisher(.bind(Endpoint("tcp://127.0.0.1:*")), identity: "ingest")
    let publishing = Task {
      while !Task.isCancelled {
        let acknowledgement = TrialAcknowledgement(robot: "r1", trialID: "t1")
        try await publisher.publish(acknowledgement, to: .acknowledgements(robot: "r1"))
        try await publisher.publish(acknowledgement, to: .acknowledgements(robot: "r10"))
        try await Task.sleep(for: .milliseconds(20))
      }
    }
    defer { publishing.cancel() }
    let topics = try await publisher.boundEndpoint
    let (status, output) = try await Self.run(
      "documented_client_test.py", [server.endpoint.description, topics.description])
    #expect(status == 0 && output.contains("12 checks passed"), "\(output)")
    await publisher.close()
    await server.stop()
  }

  @Test("a key lets the Python client in, and a revoked one does not")
  func keys() async throws {
    let folder = NSTemporaryDirectory() + "fleetloop-python-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let (mine, theirs) = (KeyStore(folder: folder + "/server"), KeyStore(folder: folder + "/client"))
    let serverKey = try mine.create(name: "ingest", role: .ingest).publicKey
    let key = try theirs.create(name: "boss", role: .operator).publicKey
    try mine.authorize(.init(name: "boss", role: .operator, publicKey: key))
    let server = try await EchoServer(security: .curve(mine))
    let arguments = [server.endpoint.description, theirs.folder, serverKey]
    let (status, output) = try await Self.run("bus_client_test.py", arguments)
    #expect(status == 0, "\(output)")
    try mine.revoke("boss")
    let (failure, refusal) = try await Self.run("bus_client_test.py", arguments)
    #expect(failure != 0 && refusal.contains("UNAVAILABLE"), "\(refusal)")
    await server.stop()
  }

  /// Runs a script of Tests/Interop with the repository's Python, off the cooperative pool.
  private static func run(_ script: String, _ arguments: [String]) async throws -> (Int32, String) {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().path
    let python = ProcessInfo.processInfo.environment["FLEETLOOP_PYTHON"] ?? "\(root)/.python/bin/python"
    try #require(
      FileManager.default.isExecutableFile(atPath: python), "\(python) is missing: run deploy/setup")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: python)
    process.arguments = ["\(root)/Tests/Interop/\(script)"] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    return try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async {
        do {
          try process.run()
          let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
          process.waitUntilExit()
          continuation.resume(returning: (process.terminationStatus, output))
        } catch {
          continuation.resume(throwing: error)
        }
      }
    }
  }
}
