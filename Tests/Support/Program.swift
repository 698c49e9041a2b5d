public import Foundation

/// Programs as a person runs them.
public enum Program {
  public struct Result: Sendable {
    public var status: Int32
    public var output: String
    public var errors: String
  }

  /// The repository.
  public static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  /// One of the product's executables, built beside the tests.
  public static func built(_ name: String) -> String {
    URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
      .appending(path: name).path
  }

  /// Starts a program whose words nobody reads.
  public static func start(_ program: String, _ arguments: [String]) throws -> Process {
    let process = Process()
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    return process
  }

  /// Runs a program to its end.
  public static func run(_ program: String, _ arguments: [String]) async throws -> Result {
    // Threads of their own: waiting and reading block, and must not hold up the Swift pool.
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread {
        continuation.resume(with: Swift.Result { try Self.runAndWait(program, arguments) })
      }
    }
  }

  private static func runAndWait(_ program: String, _ arguments: [String]) throws -> Result {
    let process = Process()
    let (output, errors) = (Pipe(), Pipe())
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    let written = try output.fileHandleForReading.readToEnd() ?? Data()
    let told = try errors.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return Result(
      status: process.terminationStatus, output: String(decoding: written, as: UTF8.self),
      errors: String(decoding: told, as: UTF8.self))
  }
}

/// Ports of loopback that nobody uses.
public enum FreePorts {
  /// Below those that Linux gives to whoever asks for any port (32768 and up): what else runs beside the test opens sockets
  /// of that kind all the time, and would take one of ours between now and the moment when its service binds it.
  private static let range: ClosedRange<UInt16> = 20_000...31_999

  /// - Returns: the endpoint of each.
  public static func take(_ count: Int) throws -> (Int) -> String {
    var ports: Set<UInt16> = []
    for _ in 0..<1_000 where ports.count < count {
      let port = UInt16.random(in: Self.range)
      if try Self.isFree(port) { ports.insert(port) }
    }
    guard ports.count == count else { throw CocoaError(.featureUnsupported) }
    let endpoints = ports.map { "tcp://127.0.0.1:\($0)" }
    return { endpoints[$0] }
  }

  private static func isFree(_ port: UInt16) throws -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw CocoaError(.featureUnsupported) }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
    // SAFETY: sockaddr_in is one of the shapes that sockaddr stands for; the call is told its size.
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }
}
