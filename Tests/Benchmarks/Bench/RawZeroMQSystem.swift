import ArgumentParser
import Foundation
import RawZeroMQ

/// libzmq from C.
struct RawZeroMQSystem: BusSystem {
  static let title = "libzmq in C"
  var name: String { Self.title }

  func measure(_ workload: Workload, bytes: Int, seconds: Double) async throws -> Sample {
    // A thread of its own: it waits, which the cooperative pool must not.
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread {
        continuation.resume(with: Result { try Self.measure(workload, bytes: bytes, seconds: seconds) })
      }
    }
  }

  private static func measure(_ workload: Workload, bytes: Int, seconds: Double) throws -> Sample {
    var rate = raw_rate()
    var latencies: [Double] = []
    let error: Int32
    switch workload {
    case .unary:
      latencies = [Double](repeating: 0, count: 1_000_000)
      error = raw_unary(bytes, seconds, &latencies, latencies.count, &rate)
      latencies.removeLast(latencies.count - min(latencies.count, Int(rate.messages)))
    case .stream: error = raw_stream(bytes, seconds, &rate)
    case .publish: error = raw_publish(bytes, seconds, Int32(Queues.messages(of: bytes)), &rate)
    }
    guard error == 0 else { throw ValidationError("libzmq failed with error \(error).") }
    return Sample(messages: Int(rate.messages), seconds: rate.seconds, latencies: latencies)
  }
}

/// How much may wait between a publisher and its subscriber: the same for all.
enum Queues {
  static func messages(of bytes: Int) -> Int { max(16, min(1000, (64 << 20) / bytes)) }
}
