import Bus
import GRPCCore
import Testing

@Suite("Transport conformance", .timeLimit(.minutes(5)))
struct ConformanceTests {
  @Test(
    "a unary call brings its message back", arguments: TransportKind.allCases, [0, 1, 300, 70_000, 3_000_000])
  func unary(kind: TransportKind, size: Int) async throws {
    try await withEcho(kind) { client, _ in
      var message = [UInt8](repeating: 3, count: size)
      for position in stride(from: 0, to: size, by: 1001) { message[position] = UInt8(position % 251) }
      try await client.expect(.unary, [message], gives: [message])
    }
  }

  @Test("streams carry every message in order", arguments: TransportKind.allCases)
  func streams(kind: TransportKind) async throws {
    try await withEcho(kind) { client, _ in
      let messages = (0..<500).map { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
      try await client.expect(.join, messages, gives: [messages.flatMap { $0 }])
      try await client.expect(.split, [[1, 2, 3]], gives: [[1], [2], [3]])
      try await client.expect(.echo, messages, gives: messages)
      try await client.expect(.echo, [], gives: [])
    }
  }

  @Test("a stream is a conversation", arguments: TransportKind.allCases)
  func conversation(kind: TransportKind) async throws {
    try await withEcho(kind) { client, _ in
      let (answers, answered) = AsyncStream.makeStream(of: [UInt8].self)
      let heard = try await client.exchange(
        EchoService.Method.echo.descriptor, metadata: [:], options: .defaults
      ) { writer in
        var iterator = answers.makeAsyncIterator()
        for number in UInt8(0)..<50 {
          try await writer.write([number])
          // The next question needs the answer to this one.
          guard await iterator.next() == [number] else { throw CancellationError() }
        }
      } _: { response in
        var heard = 0
        for try await message in response.messages {
          answered.yield(message)
          heard += 1
        }
        return heard
      }
      #expect(heard == 50)
    }
  }

  @Test("metadata goes both ways", arguments: TransportKind.allCases)
  func metadata(kind: TransportKind) async throws {
    try await withEcho(kind) { client, _ in
      var metadata: Metadata = ["ask": "grüße"]
      metadata.addBinary([0, 255, 10], forKey: "ask-bin")
      try await client.exchange(
        EchoService.Method.unary.descriptor, metadata: metadata, options: .defaults
      ) {
        try await $0.write([1])
      } _: { response in
        let contents = try response.accepted.get()
        #expect(Array(contents.metadata[stringValues: "seen"]) == ["unary"])
        var trailing: Metadata = [:]
        for try await part in contents.bodyParts {
          if case .trailingMetadata(let metadata) = part { trailing = metadata }
        }
        #expect(Array(trailing[stringValues: "told"]) == ["grüße"])
        #expect(Array(trailing[binaryValues: "told-bin"]) == [[0, 255, 10]])
      }
    }
  }

  @Test("every status code arrives", arguments: TransportKind.allCases)
  func statuses(kind: TransportKind) async throws {
    try await withEcho(kind) { client, _ in
      for code in UInt8(1)...16 {
        let error = await #expect(throws: RPCError.self) { try await client.messages(.fail, [[code]]) }
        #expect(error?.code.rawValue == Int(code))
        #expect(error?.message == "code \(code)")
        #expect(error.map { Array($0.metadata[stringValues: "failed"]) } == ["yes"])
      }
    }
  }

  @Test("a deadline ends a call", arguments: TransportKind.allCases)
  func deadline(kind: TransportKind) async throws {
    try await withEcho(kind) { client, log in
      var options = CallOptions.defaults
      options.timeout = .seconds(1)
      do {
        _ = try await client.messages(.hang, [[1]], options: options)
        // The handler is asked to end at the deadline, and on a busy machine its answer may be there first.
        #expect(log.count("asked") == 1)
      } catch let error as RPCError {
        #expect(error.code == .deadlineExceeded)
        // Or the deadline may come before the handler.
        if log.count("hanging") > 0 { #expect(await log.waits(for: "asked")) }
      }
    }
  }

  @Test("cancelling a call cancels its handler", arguments: [TransportKind.tcp, .ipc, .inproc])
  func cancellation(kind: TransportKind) async throws {
    try await withEcho(kind) { client, log in
      let call = Task { try await client.messages(.sleep, [[1]]) }
      #expect(await log.waits(for: "sleeping"))
      call.cancel()
      await #expect(throws: (any Error).self) { try await call.value }
      #expect(await log.waits(for: "cancelled"))
    }
  }

  @Test("calls run side by side", arguments: TransportKind.allCases)
  func parallel(kind: TransportKind) async throws {
    try await withEcho(kind) { client, _ in
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for number in 0..<200 {
          let message = Array("call \(number)".utf8)
          group.addTask { try await client.messages(.unary, [message]) == [message] }
        }
        for try await isRight in group { #expect(isRight) }
      }
    }
  }

  @Test("an unknown method is unimplemented", arguments: TransportKind.allCases)
  func unknownMethod(kind: TransportKind) async throws {
    try await withEcho(kind) { client, _ in
      let method = MethodDescriptor(fullyQualifiedService: "no.Such", method: "Thing")
      let error = await #expect(throws: RPCError.self) {
        try await client.exchange(method, metadata: [:], options: .defaults) {
          try await $0.write([1])
        } _: {
          for try await _ in $0.messages {}
        }
      }
      #expect(error?.code == .unimplemented)
    }
  }
}
