import Foundation
import Schemas
import Testing

@testable import Bus

@Suite("Bound publishers and who does not read", .timeLimit(.minutes(5)))
struct BoundPublisherTests {
  private static func publisher(_ change: (inout Publisher.Configuration) -> Void = { _ in }) throws
    -> Publisher
  {
    var configuration = Publisher.Configuration()
    // Who does not read answers no heartbeats.
    configuration.heartbeat = .seconds(600)
    change(&configuration)
    return try Publisher(.bind(Endpoint("tcp://127.0.0.1:*")), identity: "p", configuration: configuration)
  }

  /// A subscriber that takes one message, and then no more until it is asked.
  private static func deaf(_ publisher: Publisher, _ topic: String) async throws -> RawPeer {
    let peer = try await RawPeer(.subscribe, to: publisher.boundEndpoint, isDeaf: true)
    try peer.subscribe(Array(topic.utf8))
    let hello = Task {
      while !Task.isCancelled {
        try await publisher.publish(bytes: ZeroMQBytes([0]), to: Topic(topic))
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    #expect(await peer.receive() != nil)
    hello.cancel()
    return peer
  }

  @Test func `a subscriber that never reads holds up nobody`() async throws {
    // One that waits for it, if only once, waits far longer than a busy machine makes it wait.
    let publisher = try Self.publisher { $0.patience = .seconds(60) }
    let subscriber = try await Subscriber(.connect([publisher.boundEndpoint]), topics: ["a"])
    try await TopicTests.connect(publisher, subscriber, "a/b")
    let peer = try await Self.deaf(publisher, "a/b")
    let payload = [UInt8](repeating: 1, count: 16 << 10)
    var iterator = subscriber.messages.makeAsyncIterator()
    var (longest, missed) = (Duration.zero, UInt64(0))
    for _ in 0..<3000 {
      let begin = ContinuousClock.now
      try await publisher.publish(bytes: ZeroMQBytes(payload), to: "a/b")
      var message: ReceivedMessage?
      repeat {
        message = await iterator.next()
        missed += message?.missed ?? 0
      } while message.map { $0.payload.count < payload.count } ?? false
      longest = max(longest, .now - begin)
    }
    #expect(longest < .seconds(20) && missed == 0)
    peer.close()
    await publisher.close()
    await subscriber.close()
  }

  @Test func `64 MiB wait for it, and it sees what it missed`() async throws {
    let publisher = try Self.publisher { $0.maxMessageBytes = 1 << 20 }
    let peer = try await Self.deaf(publisher, "a")
    for _ in 0..<200 {
      try await publisher.publish(bytes: ZeroMQBytes(repeating: 1, count: 1 << 20), to: "a")
    }
    // The last of them all.
    var (count, last) = (0, UInt64(0))
    let publishing = Task {
      while !Task.isCancelled {
        try await publisher.publish(bytes: ZeroMQBytes([9]), to: "a")
        try await Task.sleep(for: .milliseconds(20))
      }
    }
    var missed: UInt64 = 0
    while let frames = await peer.receive() {
      let sequence = try TopicEnvelope(serializedBytes: frames[1]).sequence
      if last > 0 { missed += sequence - last - 1 }
      last = sequence
      if frames[2] == [9] { break }
      if frames[2].count > 1 { count += 1 }
    }
    publishing.cancel()
    // What waits in ZeroMQ, and what two sockets of the system hold.
    #expect(count >= 60 && count < 80 && missed >= 120, "\(count), \(missed) missed")
    peer.close()
    await publisher.close()
  }

  @Test func `a thousand messages at once reach who reads`() async throws {
    let publisher = try Self.publisher()
    let subscribers = try await [
      Subscriber(.connect([publisher.boundEndpoint]), topics: ["a"]),
      Subscriber(.connect([publisher.boundEndpoint]), topics: ["a"]),
    ]
    for subscriber in subscribers { try await TopicTests.connect(publisher, subscriber, "a/b") }
    var iterators = subscribers.map { $0.messages.makeAsyncIterator() }
    // ZeroMQ may know late of what was read: from anywhere between its steps.
    for burst in [1000, 700, 1000, 400, 1000, 999, 1000] {
      for number in 0..<burst {
        try await publisher.publish(bytes: ZeroMQBytes(number == burst - 1 ? [1, 1] : [1]), to: "a/b")
      }
      for index in iterators.indices {
        var missed: UInt64 = 0
        while let message = await iterators[index].next() {
          missed += message.missed
          if message.payload.count == 2 && message.payload.array == [1, 1] { break }
        }
        #expect(missed == 0)
      }
    }
    await publisher.close()
    for subscriber in subscribers { await subscriber.close() }
  }
}
