import Foundation
import Schemas
import Testing

@testable import Bus

@Suite("Topics", .timeLimit(.minutes(5)))
struct TopicTests {
  /// Publishes until the first message arrives: PUB drops what no one has subscribed to yet.
  static func connect(_ publisher: Publisher, _ subscriber: Subscriber, _ topic: Topic) async throws {
    let hello = Task {
      while !Task.isCancelled {
        try await publisher.publish(HealthCheckRequest(service: "hello"), to: topic)
        try await Task.sleep(for: .milliseconds(20))
      }
    }
    defer { hello.cancel() }
    var iterator = subscriber.messages.makeAsyncIterator()
    _ = try #require(await iterator.next())
  }

  @Test(
    "messages arrive in order with their sequence",
    arguments: ["tcp://127.0.0.1:*", "inproc://", "ipc:///tmp/fleetloop-topic-"])
  func order(prefix: String) async throws {
    let endpoint = try Endpoint(prefix.hasSuffix("*") ? prefix : prefix + UUID().uuidString.prefix(8))
    defer {
      if endpoint.transport == .ipc { try? FileManager.default.removeItem(atPath: endpoint.address) }
    }
    let subscriber = try Subscriber(.bind(endpoint), topics: ["trials"])
    let publisher = try await Publisher(.connect([subscriber.boundEndpoint]), identity: "r1")
    try await Self.connect(publisher, subscriber, "trials/r1")
    for number in 0..<300 {
      try await publisher.publish(HealthCheckRequest(service: "\(number)"), to: "trials/r1")
      try await publisher.publish(HealthCheckRequest(service: "other"), to: "trialsome/r1")
    }
    var iterator = subscriber.messages.makeAsyncIterator()
    var next = 0
    var last: UInt64 = 0
    while next < 300 {
      let message = try #require(await iterator.next())
      #expect(message.topic == "trials/r1" && message.publisher == "r1" && message.missed == 0)
      #expect(last == 0 || message.sequence == last + 1)
      last = message.sequence
      let text = try message.decode(HealthCheckRequest.self).service
      if text == "hello" { continue }
      #expect(text == "\(next)")
      next += 1
    }
    await publisher.close()
    await subscriber.close()
    #expect(await iterator.next() == nil)
  }

  @Test("what a full subscriber misses is counted, and the publisher says so when it drops")
  func overflow() async throws {
    var slow = Subscriber.Configuration()
    slow.queuedMessages = 4
    var impatient = Publisher.Configuration()
    impatient.queuedMessages = 8
    impatient.patience = .milliseconds(100)
    let subscriber = try Subscriber(
      .bind(Endpoint("inproc://\(UUID().uuidString)")), topics: [""], configuration: slow)
    let publisher = try await Publisher(
      .connect([subscriber.boundEndpoint]), identity: "r1", configuration: impatient)
    try await Self.connect(publisher, subscriber, "trials/r1")
    var dropped = 0
    for number in 0..<200 {
      do {
        try await publisher.publish(HealthCheckRequest(service: "\(number)"), to: "trials/r1")
      } catch let error as BusError where error.code == .dropped {
        dropped += 1
      }
    }
    // What is published after the jam arrives, and tells how much is missing.
    let last = Task {
      while !Task.isCancelled {
        try? await publisher.publish(HealthCheckRequest(service: "last"), to: "trials/r1")
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    var iterator = subscriber.messages.makeAsyncIterator()
    var received: UInt64 = 0
    var missed: UInt64 = 0
    var first: UInt64?
    while let message = await iterator.next() {
      #expect(first == nil || message.sequence > received)
      first = first ?? message.sequence
      missed += message.missed
      received = message.sequence
      if try message.decode(HealthCheckRequest.self).service == "last" { break }
    }
    last.cancel()
    #expect(missed > 0 || dropped == 0)
    await publisher.close()
    await subscriber.close()
    let error = await #expect(throws: BusError.self) {
      try await publisher.publish(HealthCheckRequest(), to: "trials/r1")
    }
    #expect(error?.code == .closed)
  }

  @Test func `an envelope above 4 KiB is none`() async throws {
    let subscriber = try Subscriber(.bind(Endpoint("tcp://127.0.0.1:*")), topics: ["a"])
    let peer = try await RawPeer(.publish, to: subscriber.boundEndpoint)
    let publishing = Task {
      while !Task.isCancelled {
        for name in [String(repeating: "x", count: 4100), "p"] {
          let envelope = TopicEnvelope(publisher: name, sequence: 1, unixNanos: 1, session: 1)
          _ = await peer.send([Array("a".utf8), envelope.serializedBytes(), [1]])
        }
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    var iterator = subscriber.messages.makeAsyncIterator()
    for _ in 0..<10 { #expect(await iterator.next()?.publisher == "p") }
    publishing.cancel()
    _ = try? await publishing.value
    peer.close()
    await subscriber.close()
  }

  @Test("gaps: restarts count anew, late joiners miss nothing that they know of")
  func gaps() {
    var gaps = GapDetector()
    func missed(_ session: UInt64, _ sequence: UInt64, _ topic: Topic = "a") -> UInt64 {
      gaps.missed(publisher: "p", topic: topic, session: session, sequence: sequence)
    }
    #expect(missed(1, 5) == 0)
    #expect(missed(1, 6) == 0)
    #expect(missed(1, 9) == 2)
    #expect(missed(1, 9, "b") == 0)
    #expect(missed(2, 1) == 0)
    #expect(missed(3, 4) == 3)
    #expect(missed(3, .max) == GapDetector.longestGap)
    #expect(missed(3, 1) <= 1)
  }

  @Test func `names of strangers push out nobody who speaks`() {
    var gaps = GapDetector()
    for number in UInt64(1)...100_000 {
      _ = gaps.missed(publisher: "stranger-\(number)", topic: "a", session: 1, sequence: 1)
      guard number % 1000 == 0 else { continue }
      // It loses every second message.
      let missed = gaps.missed(publisher: "p", topic: "a", session: 1, sequence: number / 500)
      #expect(missed == (number == 1000 ? 0 : 1))
    }
  }

  @Test("a subscription is by parts, and what is no topic is refused")
  func topics() async throws {
    let topic = Topic("trials/r1")
    for prefix in ["", "trials", "trials/", "trials/r1"] { #expect(topic.isWithin(Topic(prefix))) }
    for prefix in ["trial", "trials/r", "trials/r1/x", "other"] { #expect(!topic.isWithin(Topic(prefix))) }
    let publisher = try Publisher(.bind(Endpoint("inproc://\(UUID().uuidString)")), identity: "p")
    for path in ["", "a//b", "/a", "a b", "a\nb", String(repeating: "a", count: 256)] {
      let error = await #expect(throws: BusError.self) {
        try await publisher.publish(HealthCheckRequest(), to: Topic(path))
      }
      #expect(error?.code == .invalidTopic)
    }
    var small = Publisher.Configuration()
    small.maxMessageBytes = 10
    let strict = try Publisher(
      .bind(Endpoint("inproc://\(UUID().uuidString)")), identity: "p", configuration: small)
    let error = await #expect(throws: BusError.self) {
      try await strict.publish(HealthCheckRequest(service: "more than ten bytes"), to: "a")
    }
    #expect(error?.code == .tooLarge)
    #expect(throws: BusError.self) {
      try Publisher(.bind(Endpoint("inproc://\(UUID().uuidString)")), identity: "")
    }
    await publisher.close()
    await strict.close()
  }

  @Test("malformed messages are counted and skipped")
  func malformed() async throws {
    let subscriber = try Subscriber(.bind(Endpoint("tcp://127.0.0.1:*")), topics: ["t"])
    let peer = try await RawPeer(.publish, to: subscriber.boundEndpoint)
    let envelope = TopicEnvelope(publisher: "x", sequence: 1, unixNanos: 1, session: 1).serializedBytes()
    let long = TopicEnvelope(
      publisher: String(repeating: "x", count: 5000), sequence: 1, unixNanos: 1, session: 1
    )
    .serializedBytes()
    let topic = Array("t/a".utf8)
    let sending = Task {
      while !Task.isCancelled {
        for frames in [
          [topic], [topic, [255]], [topic, [255], []], [[0x74, 0xFF], envelope, []],
          [topic, envelope, [], []], [topic, long, [7]], [topic, envelope, [7]],
        ] { _ = await peer.send(frames) }
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    let before = BusMetrics.snapshot()["bus_malformed_frames_total"] ?? 0
    var iterator = subscriber.messages.makeAsyncIterator()
    for _ in 0..<5 {
      let message = try #require(await iterator.next())
      #expect(message.payload.array == [7] && message.topic == "t/a" && message.peer == nil)
      #expect(throws: BusError.self) { try message.decode(HealthCheckRequest.self) }
    }
    #expect((BusMetrics.snapshot()["bus_malformed_frames_total"] ?? 0) >= before + 16)
    sending.cancel()
    _ = try? await sending.value
    peer.close()
    await subscriber.close()
  }
}
