import Foundation

/// What is done, with messages of a size.
enum Workload: Sendable {
  /// One call after the other.
  case unary
  /// Messages that come back, as many under way as the system allows, on one open bidirectional stream.
  case stream
  /// Messages from one publisher to one subscriber, none lost. gRPC's nearest is a server's stream.
  case publish
}

/// Something that carries messages over tcp on loopback.
protocol BusSystem: Sendable {
  var name: String { get }
  func measure(_ workload: Workload, bytes: Int, seconds: Double) async throws -> Sample
}

/// The bus, libzmq without it, and the gRPCs that one would use instead.
struct BusBenchmark {
  var seconds: Double
  var rounds: Int
  /// Part of the names of the workloads to measure; nil for all.
  var only: String?

  static let ours = "FleetLoop Bus"
  private static let cases: [(name: String, workload: Workload, bytes: Int)] = [
    ("unary 256 B", .unary, 256),
    ("stream 256 B", .stream, 256), ("stream 64 KB", .stream, 64 << 10), ("stream 1 MB", .stream, 1 << 20),
    ("pub/sub 256 B", .publish, 256), ("pub/sub 64 KB", .publish, 64 << 10),
    ("pub/sub 1 MB", .publish, 1 << 20),
  ]

  func run() async throws -> [Row] {
    let systems: [any BusSystem] = [RawZeroMQSystem(), FleetLoopSystem(), HTTP2System(), PythonSystem()]
    var rows: [Row] = []
    for (name, workload, bytes) in Self.cases where self.only.map(name.contains) ?? true {
      var samples = [[Sample]](repeating: [], count: systems.count)
      // In turn, so that what else the machine does hits all alike.
      for _ in 0..<self.rounds {
        for (index, system) in systems.enumerated() {
          samples[index].append(try await system.measure(workload, bytes: bytes, seconds: self.seconds))
        }
      }
      let measured = zip(systems, samples).map { system, samples in
        Row(samples, workload: name, system: system.name, bytes: bytes)
      }
      Self.print(measured)
      rows += measured
    }
    Self.judge(rows)
    return rows
  }

  private static func print(_ rows: [Row]) {
    guard let ours = rows.first(where: { $0.system == Self.ours }) else { return }
    Swift.print("\n\(rows[0].workload)")
    // Whoever reads a pipe wants to see it now too.
    defer { fflush(nil) }
    for row in rows {
      let latency = row.p50Microseconds.map { p50 in
        String(format: "p50 %7.0f µs  p99 %7.0f µs  ", p50, row.p99Microseconds ?? 0)
      }
      let name = row.system.padding(toLength: 24, withPad: " ", startingAt: 0)
      Swift.print(
        "  \(name) \(latency ?? "")"
          + String(
            format: "%9.0f messages/s %9.1f MB/s   ours is %.2f×", row.messagesPerSecond,
            row.bytesPerSecond / 1e6,
            ours.messagesPerSecond / row.messagesPerSecond))
    }
  }

  /// What the bus is expected to reach, said with the figures.
  private static func judge(_ rows: [Row]) {
    func row(_ workload: String, _ system: String) -> Row? {
      rows.first { $0.workload == workload && $0.system == system }
    }
    func say(_ expectation: String, _ ratio: Double, least: Double) {
      Swift.print("  \(ratio >= least ? "yes" : "NO ") \(expectation): " + String(format: "%.2f", ratio))
    }
    Swift.print("\nexpected")
    for peer in [HTTP2System.title, PythonSystem.title] {
      guard let ours = row("unary 256 B", Self.ours)?.p50Microseconds,
        let p50 = row("unary 256 B", peer)?.p50Microseconds
      else { continue }
      say("unary p50 of \(peer) ÷ ours above 1", p50 / ours, least: 1)
    }
    if let ours = row("pub/sub 64 KB", Self.ours), let raw = row("pub/sub 64 KB", RawZeroMQSystem.title) {
      say("pub/sub 64 KB, ours ÷ libzmq at least 0.7", ours.bytesPerSecond / raw.bytesPerSecond, least: 0.7)
    }
    if let ours = row("stream 256 B", Self.ours), let peer = row("stream 256 B", HTTP2System.title) {
      say("stream 256 B, ours ÷ HTTP/2 at least 2", ours.messagesPerSecond / peer.messagesPerSecond, least: 2)
    }
  }
}
