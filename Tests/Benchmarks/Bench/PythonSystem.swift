import ArgumentParser
import Foundation

/// Python's grpcio, in processes of its own.
struct PythonSystem: BusSystem {
  static let title = "Python grpcio"
  var name: String { Self.title }

  private struct Answer: Decodable {
    var messages: Int
    var seconds: Double
    var latencies: [Double]?
  }

  func measure(_ workload: Workload, bytes: Int, seconds: Double) async throws -> Sample {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let python =
      ProcessInfo.processInfo.environment["FLEETLOOP_PYTHON"]
      ?? root.appendingPathComponent("../../.python/bin/python").standardized.path
    guard FileManager.default.isExecutableFile(atPath: python) else {
      throw ValidationError("There is no Python at \(python): run deploy/setup, or set FLEETLOOP_PYTHON.")
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: python)
    process.arguments = [
      root.appendingPathComponent("Peers/grpcio_peer.py").path, "\(workload)", "\(bytes)", "\(seconds)",
    ]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let data = await withCheckedContinuation { continuation in
      Thread.detachNewThread {
        continuation.resume(returning: output.fileHandleForReading.readDataToEndOfFile())
      }
    }
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw ValidationError("The Python peer failed; see above.") }
    let answer = try JSONDecoder().decode(Answer.self, from: data)
    return Sample(messages: answer.messages, seconds: answer.seconds, latencies: answer.latencies ?? [])
  }
}
