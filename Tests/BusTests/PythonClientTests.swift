import Bus
import Foundation
import Testing

/// Our client in another language, against our server: what `proto/BUS.md` promises to others.
@Suite("Python client", .timeLimit(.minutes(2)))
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
