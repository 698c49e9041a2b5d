import Bus
import Foundation
import Schemas
import Testing

@Suite("Topics", .timeLimit(.minutes(1)))
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
}
