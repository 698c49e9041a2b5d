import ArgumentParser
import Bus
import GRPCCore

/// Ours.
struct FleetLoopSystem: BusSystem {
  var name: String { BusBenchmark.ours }

  func measure(_ workload: Workload, bytes: Int, seconds: Double) async throws -> Sample {
    switch workload {
    case .unary, .stream: try await self.call(workload, bytes: bytes, seconds: seconds)
    case .publish: try await self.publish(bytes: bytes, seconds: seconds)
    }
  }

  private func call(_ workload: Workload, bytes: Int, seconds: Double) async throws -> Sample {
    let transport = try ZeroMQServerTransport(bind: Endpoint("tcp://127.0.0.1:0"))
    let endpoint = try await transport.boundEndpoint
    let server = GRPCServer(transport: transport, services: [EchoService()])
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.serve() }
      defer { server.beginGracefulShutdown() }
      return try await withGRPCClient(transport: ZeroMQClientTransport(connect: endpoint)) {
        try await GRPCMeasurement(client: $0).measure(workload, bytes: bytes, seconds: seconds)
      }
    }
  }

  private func publish(bytes: Int, seconds: Double) async throws -> Sample {
    var sending = Publisher.Configuration()
    sending.queuedMessages = Queues.messages(of: bytes)
    var receiving = Subscriber.Configuration()
    receiving.queuedMessages = sending.queuedMessages
    // As many messages may wait in ZeroMQ as have 64 MiB.
    receiving.maxMessageBytes = max(bytes, 64 << 10)
    // As robots do: who binds would not wait for its subscriber.
    let subscriber = try Subscriber(
      .bind(Endpoint("tcp://127.0.0.1:0")), topics: ["bench"], configuration: receiving)
    let publisher = try await Publisher(
      .connect([subscriber.boundEndpoint]), identity: "bench", configuration: sending)
    // Counts until a message of one byte; the first says that the subscription has arrived.
    let (subscribed, arrival) = AsyncStream.makeStream(of: Void.self)
    let reader = Task {
      var sample = Sample(messages: 0, seconds: 0)
      var begin: ContinuousClock.Instant?
      for await message in subscriber.messages {
        switch message.payload.count {
        case 0: arrival.yield()
        case 1:
          sample.seconds = begin?.duration(to: .now).inSeconds ?? 0
          return sample
        default:
          if begin == nil { begin = .now }
          sample.messages += 1
        }
      }
      throw ValidationError("The subscriber was closed after \(sample.messages) messages.")
    }
    let probe = Task {
      while !Task.isCancelled {
        try await publisher.publish(bytes: ZeroMQBytes([]), to: "bench/probe")
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    for await _ in subscribed { break }
    probe.cancel()
    let payload = [UInt8](repeating: 0, count: bytes)
    let end = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < end {
      try await publisher.publish(bytes: ZeroMQBytes(payload), to: "bench/data")
    }
    try await publisher.publish(bytes: ZeroMQBytes([0]), to: "bench/data")
    let limit = Task {
      try await Task.sleep(for: .seconds(20))
      await subscriber.close()
    }
    defer { limit.cancel() }
    let sample = try await reader.value
    await publisher.close()
    await subscriber.close()
    return sample
  }
}
