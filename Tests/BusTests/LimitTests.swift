import CPoller
import Foundation
import GRPCCore
import Schemas
import Synchronization
import Testing

@testable import Bus

@Suite("What one peer may take", .timeLimit(.minutes(5)))
struct LimitTests {
  static func limits(_ change: (inout ZeroMQServerTransport.Configuration) -> Void)
    -> ZeroMQServerTransport.Configuration
  {
    var configuration = ZeroMQServerTransport.Configuration()
    change(&configuration)
    return configuration
  }

  static func opening(_ method: EchoService.Method, id: UInt64, credit: UInt64 = 0) -> CallFrame {
    var header = CallFrame(kind: .open, callID: id, method: method.descriptor.fullyQualifiedMethod)
    header.hasMessage = true
    header.halfClose = true
    header.credit = credit
    return header
  }

  @Test func `a peer that gives endless credit and never reads fills no memory, and others are served`()
    async throws
  {
    let megabyte = 1 << 20
    let server = try await EchoServer(
      configuration: Self.limits { $0.limits.maxQueuedBytesPerPeer = 8 * megabyte })
    let peer = try RawPeer(.dealer, to: server.endpoint, isDeaf: true)
    // 50 calls of 255 MiB each.
    let before = counted(.writesHeld)
    for id in UInt64(1)...50 {
      #expect(await peer.send(Self.opening(.flood, id: id, credit: .max), message: [255]))
    }
    #expect(await eventually { server.load.queuedBytes >= 8 * megabyte })
    for _ in 0..<20 {
      for id in UInt64(1)...50 {
        var credit = CallFrame(kind: .credit, callID: id)
        credit.credit = .max
        #expect(await peer.send(credit))
      }
      try await withClient(server.endpoint) { try await $0.expect(.unary, [[9]], gives: [[9]]) }
      // What the socket takes over at this moment, at most a message of each call, counts twice.
      #expect(server.load.queuedBytes <= 9 * megabyte + 50 * 66_000)
    }
    #expect(counted(.writesHeld) > before)
    // What left: the budget, and what two sockets of the system hold.
    #expect(server.log.count("flooded") * 65_536 < 40 * megabyte)
    // A call that came when the budget was full already was refused; the others wait.
    #expect(await eventually { server.load.openCalls + server.rejectedCalls == 50 })
    #expect(server.load.openCalls >= 1)
    peer.close()
    #expect(await eventually { server.load == ServerLoad(openCalls: 0, queuedBytes: 0, unreadBytes: 0) })
    await server.stop()
  }

  @Test func `a slow reader gets all of what a budget held back`() async throws {
    let server = try await EchoServer(
      configuration: Self.limits { $0.limits.maxQueuedBytesPerPeer = 100_000 })
    try await withClient(server.endpoint) { client in
      try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<6 {
          group.addTask {
            for _ in 0..<1_000 {
              do {
                return try await client.messages(.flood, [[4]]).reduce(0) { $0 + $1.count }
              } catch let error as RPCError where error.code == .resourceExhausted {
                // The calls before it filled the budget before this one was opened: told so, it comes again.
                try await Task.sleep(for: .milliseconds(20))
              }
            }
            return 0
          }
        }
        for try await bytes in group { #expect(bytes == 4 << 20) }
      }
    }
    #expect(await eventually { server.load.queuedBytes == 0 })
    await server.stop()
  }

  @Test func `a peer that lets its messages lie has its calls ended, and others are served`() async throws {
    let server = try await EchoServer(
      configuration: Self.limits { $0.limits.maxUnreadBytesPerPeer = 1 << 20 })
    let peer = try RawPeer(.dealer, to: server.endpoint)
    for id in UInt64(1)...8 {
      var header = Self.opening(.sleep, id: id)
      header.halfClose = false
      #expect(await peer.send(header, message: [UInt8](repeating: 1, count: 240_000)))
    }
    let status = try #require(await peer.status())
    #expect(status.statusCode == UInt32(Status.Code.resourceExhausted.rawValue))
    #expect(status.statusMessage.contains("This connection has") && status.statusMessage.contains("1048576"))
    #expect(server.load.unreadBytes <= 1 << 20)
    try await withClient(server.endpoint) { client in
      let message = [UInt8](repeating: 2, count: 200_000)
      try await client.expect(.join, [message, message, message], gives: [message + message + message])
      try await client.expect(
        .unary, [[UInt8](repeating: 2, count: 3 << 20)], gives: [.init(repeating: 2, count: 3 << 20)])
    }
    peer.close()
    #expect(await eventually { server.load.unreadBytes == 0 })
    await server.stop()
  }

  @Test func `a peer that sends all that it has credit for, in as many calls as it may have, keeps them all`()
    async throws
  {
    let server = try await EchoServer()
    let peer = try RawPeer(.dealer, to: server.endpoint)
    let calls = UInt64(1)...UInt64(CallLimits().maxOpenCallsPerPeer)
    for id in calls {
      var header = Self.opening(.echo, id: id)
      (header.halfClose, header.hasMessage) = (false, false)
      #expect(await peer.send(header))
    }
    /// One message that costs the whole credit: who has read it holds as much again.
    func spend(_ credit: Int, on id: UInt64) async {
      var header = CallFrame(kind: .data, callID: id)
      header.hasMessage = true
      let message = [UInt8](repeating: 1, count: credit - FlowControl.overhead)
      #expect(await peer.send(header, message: message))
    }
    for id in calls { await spend(FlowControl.initialCredit, on: id) }
    // The handlers answer until they wait for credit of their own, which never comes.
    var pings = 0
    while pings < 4, let frames = await peer.receive(within: .seconds(5)) {
      let header = try CallFrame(serializedBytes: frames[0])
      pings = header.kind == .ping ? pings + 1 : 0
      guard header.kind != .status else {
        Issue.record("\(header.statusMessage)")
        break
      }
      if header.credit > 0 { await spend(Int(header.credit), on: header.callID) }
    }
    #expect(server.load.openCalls == calls.count)
    #expect(server.load.unreadBytes > calls.count * FlowControl.initialCredit * 3 / 2)
    peer.close()
    await server.stop()
  }

  @Test func `what credit allows on one connection waits for a server that does not read yet`() async throws {
    let limits = CallLimits()
    #expect(Int(cpoller_most_undelivered) >= limits.maxUnreadBytesPerPeer + limits.maxMessageBytes)
    let server = try ZeroMQServerTransport(bind: Endpoint("tcp://127.0.0.1:*"))
    let endpoint = try await server.boundEndpoint
    let peer = try RawPeer(.dealer, to: endpoint)
    let message = [UInt8](repeating: UInt8(Status.Code.notFound.rawValue), count: 30 << 20)
    for id in UInt64(1)...6 { #expect(await peer.send(Self.opening(.fail, id: id), message: message)) }
    try await Task.sleep(for: .seconds(2))
    try await serve(server, ZeroMQClientTransport(connect: endpoint), EchoLog()) { _, _ in
      for _ in 1...6 {
        let answer = try await peer.header(within: .seconds(10))
        #expect(answer?.header.statusCode == UInt32(Status.Code.notFound.rawValue))
      }
    }
    peer.close()
  }

  @Test func `calls are counted by peer`() async throws {
    let server = try await EchoServer(configuration: Self.limits { $0.limits.maxOpenCallsPerPeer = 4 })
    let peer = try RawPeer(.dealer, to: server.endpoint)
    for id in UInt64(1)...5 { #expect(await peer.send(Self.opening(.sleep, id: id), message: [1])) }
    let status = try #require(await peer.status())
    #expect(status.callID == 5 && status.statusCode == UInt32(Status.Code.resourceExhausted.rawValue))
    #expect(
      status.statusMessage == "This connection has 4 calls open; the limit of one peer is 4. End some first.")
    try await withClient(server.endpoint) { try await $0.expect(.unary, [[9]], gives: [[9]]) }
    // A call that ends makes room.
    #expect(await peer.send(CallFrame(kind: .cancel, callID: 1)))
    #expect(await eventually { server.load.openCalls == 3 })
    #expect(await peer.send(Self.opening(.unary, id: 6), message: [1]))
    #expect(try await peer.status()?.statusCode == 0)
    peer.close()
    await server.stop()
  }

  @Test func `a REQ socket that goes takes its call with it, and no other's`() async throws {
    let server = try await EchoServer()
    let peers = try (0..<3).map { _ in try RawPeer(.request, to: server.endpoint) }
    for peer in peers { #expect(await peer.send(Self.opening(.sleep, id: 1), message: [1])) }
    #expect(await eventually { server.log.count("sleeping") == 3 })
    peers[1].close()
    #expect(await eventually { server.load.openCalls == 2 })
    #expect(server.log.count("cancelled") == 1)
    for peer in peers { peer.close() }
    #expect(await eventually { server.load.openCalls == 0 })
    await server.stop()
  }

  @Test func `a handler can tell connections without keys apart, and calls of one belong together`()
    async throws
  {
    let server = try await EchoServer()
    let heard = Mutex<[String]>([])
    for _ in 0..<2 {
      try await withClient(server.endpoint) { client in
        for _ in 0..<2 {
          let answer = try await client.messages(.peer, [[1]])
          heard.withLock { $0.append(String(decoding: answer.joined(), as: UTF8.self)) }
        }
      }
    }
    let names = heard.withLock { $0 }
    #expect(names[0] == names[1] && names[2] == names[3] && names[0] != names[2], "\(names)")
    #expect(names.allSatisfy { $0.hasPrefix("connection ") })
    await server.stop()
  }

  @Test func `with keys all connections of a key count together`() async throws {
    let keys = try TestKeys()
    let server = try await EchoServer(
      security: .curve(keys.server), configuration: Self.limits { $0.limits.maxOpenCallsPerPeer = 2 })
    let security = try keys.peer("boss", .operator)
    let peers = try (0..<3).map { _ in try RawPeer(.dealer, to: server.endpoint, security: security) }
    for peer in peers[..<2] { #expect(await peer.send(Self.opening(.sleep, id: 1), message: [1])) }
    #expect(await eventually { server.log.count("sleeping") == 2 })
    #expect(await peers[2].send(Self.opening(.sleep, id: 1), message: [1]))
    let status = try #require(await peers[2].status())
    #expect(status.statusMessage.hasPrefix("operator/boss has 2 calls open"))
    try await withClient(server.endpoint, security: keys.peer("other", .operator)) {
      try await $0.expect(.unary, [[9]], gives: [[9]])
    }
    for peer in peers { peer.close() }
    await server.stop()
  }

  @Test func `who has no call open gets in while others have all that they may`() async throws {
    let server = try await EchoServer(configuration: Self.limits { $0.limits.maxOpenCalls = 300 })
    // As many connections as it takes to have all that there is for who has more than one.
    let peers = try (0..<8).map { _ in try RawPeer(.dealer, to: server.endpoint) }
    for peer in peers {
      for id in UInt64(1)...300 { #expect(await peer.send(Self.opening(.sleep, id: id), message: [1])) }
    }
    // 225 where they come one after the other; 25 each where they come in turn.
    #expect(await eventually { server.log.count("sleeping") >= 200 })
    try await withClient(server.endpoint) { client in
      for _ in 0..<100 { try await client.expect(.unary, [[9]], gives: [[9]]) }
    }
    #expect(server.log.count("sleeping") <= 225 + peers.count)
    for peer in peers { peer.close() }
    await server.stop()
  }

  @Test func `priority methods get in whatever else is open`() async throws {
    // 1,024 calls that wait, as NextWork does, of one client; then all that all peers may have.
    let server = try await EchoServer(
      configuration: Self.limits {
        $0.priorityMethods = ["test.Echo/unary"]
        $0.limits.maxOpenCalls = 300
      })
    let peers = try (0..<2).map { _ in try RawPeer(.dealer, to: server.endpoint) }
    for id in UInt64(1)...1024 { #expect(await peers[0].send(Self.opening(.sleep, id: id), message: [1])) }
    for id in UInt64(1)...100 { #expect(await peers[1].send(Self.opening(.sleep, id: id), message: [1])) }
    #expect(await eventually { server.log.count("sleeping") + server.rejectedCalls == 1124 })
    // How many of them got in is a matter of who came when: peers with one call each take what is left.
    let others = try (server.log.count("sleeping")..<300).map { _ in
      try RawPeer(.dealer, to: server.endpoint)
    }
    for other in others { #expect(await other.send(Self.opening(.sleep, id: 1), message: [1])) }
    #expect(await eventually { server.log.count("sleeping") == 300 })
    try await withClient(server.endpoint) { client in
      let refused = await #expect(throws: RPCError.self) { try await client.messages(.join, [[1]]) }
      #expect(refused?.code == .resourceExhausted && refused?.message.contains("the limit is 300") == true)
      for _ in 0..<100 { try await client.expect(.unary, [[9]], gives: [[9]]) }
    }
    // And for the client itself that has taken all.
    #expect(await peers[0].send(Self.opening(.unary, id: 5000), message: [7]))
    while let answer = try await peers[0].status() {
      if answer.callID == 5000 {
        #expect(answer.statusCode == 0)
        break
      }
    }
    for peer in peers + others { peer.close() }
    await server.stop()
  }

  @Test func `reserved room is not one peer's`() async throws {
    let server = try await EchoServer(
      configuration: Self.limits {
        $0.priorityMethods = ["test.Echo/sleep"]
        $0.limits.maxOpenCallsPerPeer = 2
        $0.limits.reservedCallsPerPeer = 3
      })
    let peer = try RawPeer(.dealer, to: server.endpoint)
    for id in UInt64(1)...6 { #expect(await peer.send(Self.opening(.sleep, id: id), message: [1])) }
    let status = try #require(await peer.status())
    #expect(status.callID == 6 && status.statusCode == UInt32(Status.Code.resourceExhausted.rawValue))
    #expect(server.load.openCalls == 5)
    peer.close()
    await server.stop()
  }

  @Test func `who holds places of priority methods leaves some for those who have none`() async throws {
    let server = try await EchoServer(
      configuration: Self.limits {
        $0.priorityMethods = ["test.Echo/sleep", "test.Echo/unary", "test.Echo/join"]
        $0.limits.maxOpenCalls = 16
        $0.limits.reservedTime = .seconds(60)
      })
    let peers = try (0..<16).map { _ in try RawPeer(.dealer, to: server.endpoint) }
    for peer in peers {
      // Requests that are never complete take no such place; whole ones do.
      for id in UInt64(1)...8 {
        var header = Self.opening(.join, id: id)
        header.halfClose = false
        #expect(await peer.send(header, message: [1]))
      }
      for id in UInt64(101)...108 { #expect(await peer.send(Self.opening(.sleep, id: id), message: [1])) }
    }
    #expect(await eventually { server.load.openCalls >= 48 })
    try await withClient(server.endpoint) { client in
      for _ in 0..<50 { try await client.expect(.unary, [[9]], gives: [[9]]) }
    }
    #expect(server.log.count("sleeping") <= 48 + peers.count)
    for peer in peers { peer.close() }
    await server.stop()
  }

  @Test func `who reads nothing does not keep its call by saying that it is there`() async throws {
    let server = try await EchoServer(configuration: Self.limits { $0.limits.idleLimit = .seconds(2) })
    let peer = try RawPeer(.dealer, to: server.endpoint)
    // More than there is credit for.
    #expect(await peer.send(Self.opening(.flood, id: 1), message: [200]))
    let keepingAlive = Task {
      while !Task.isCancelled {
        _ = await peer.send(CallFrame(kind: .credit, callID: 1))
        try await Task.sleep(for: .milliseconds(50))
      }
    }
    #expect(await eventually { server.load.openCalls == 1 })
    #expect(await eventually { server.load.openCalls == 0 })
    keepingAlive.cancel()
    _ = try? await keepingAlive.value
    #expect(try await peer.status()?.statusCode == UInt32(Status.Code.deadlineExceeded.rawValue))
    peer.close()
    await server.stop()
  }

  @Test func `what comes on a connection that is closed by now begins no call`() async throws {
    let endpoint = try Endpoint("ipc:///tmp/fleetloop-late-\(UInt64.random(in: 0 ... .max))")
    defer { try? FileManager.default.removeItem(atPath: endpoint.address) }
    let transport = try ZeroMQServerTransport(bind: endpoint)
    let peers = try [RawPeer.Kind.request, .dealer].map { try RawPeer($0, to: endpoint) }
    for peer in peers { #expect(await peer.send(Self.opening(.sleep, id: 1), message: [1])) }
    // The requests are in the socket; nobody serves it yet.
    try await Task.sleep(for: .milliseconds(300))
    for peer in peers { peer.close() }
    try await Task.sleep(for: .milliseconds(300))
    let server = try await EchoServer(transport)
    // A connection that is made before they are read may have their descriptor, and nothing tells them from its own then.
    try await Task.sleep(for: .milliseconds(300))
    try await withClient(endpoint) { try await $0.expect(.unary, [[9]], gives: [[9]]) }
    #expect(server.log.count("sleeping") == 0)
    await server.stop()
  }

  @Test func `a call that does not end leaves its place all the same`() async throws {
    let server = try await EchoServer(
      configuration: Self.limits {
        $0.priorityMethods = ["test.Echo/sleep"]
        $0.limits.maxOpenCallsPerPeer = 1
        $0.limits.reservedCallsPerPeer = 1
        $0.limits.reservedTime = .milliseconds(200)
      })
    let peer = try RawPeer(.dealer, to: server.endpoint)
    for id in UInt64(1)...2 { #expect(await peer.send(Self.opening(.sleep, id: id), message: [1])) }
    let status = try #require(await peer.status())
    #expect(status.callID == 1 && status.statusCode == UInt32(Status.Code.deadlineExceeded.rawValue))
    #expect(await eventually { server.load.openCalls == 1 })
    peer.close()
    await server.stop()
  }

  @Test func `a call on which nobody says anything ends, one that is kept alive goes on`() async throws {
    let server = try await EchoServer(configuration: Self.limits { $0.limits.idleLimit = .seconds(4) })
    let (silent, lively) = (
      try RawPeer(.dealer, to: server.endpoint), try RawPeer(.dealer, to: server.endpoint)
    )
    for peer in [silent, lively] {
      var header = Self.opening(.join, id: 1)
      header.halfClose = false
      #expect(await peer.send(header, message: [1]))
    }
    let keepingAlive = Task {
      while !Task.isCancelled {
        _ = await lively.send(CallFrame(kind: .credit, callID: 1))
        try await Task.sleep(for: .milliseconds(50))
      }
    }
    let before = counted(.callsIdle)
    let status = try #require(await silent.status())
    #expect(status.statusCode == UInt32(Status.Code.deadlineExceeded.rawValue))
    #expect(status.statusMessage.contains("Nobody said anything"))
    #expect(counted(.callsIdle) > before)
    keepingAlive.cancel()
    _ = try? await keepingAlive.value
    var end = CallFrame(kind: .data, callID: 1)
    end.halfClose = true
    #expect(await lively.send(end))
    #expect(try await lively.status()?.statusCode == 0)
    silent.close()
    lively.close()
    await server.stop()
  }

  @Test func `our client keeps a call that waits`() async throws {
    let server = try await EchoServer(configuration: Self.limits { $0.limits.idleLimit = .seconds(2) })
    var configuration = ZeroMQClientTransport.Configuration.patient
    configuration.limits.idleLimit = .seconds(2)
    try await withClient(server.endpoint, configuration: configuration) { client in
      let waiting = Task { try await client.messages(.sleep, [[1]]) }
      #expect(await server.log.waits(for: "sleeping"))
      // Calls that began later and say nothing end, twice after one another.
      let silent = try RawPeer(.dealer, to: server.endpoint)
      for id in UInt64(1)...2 {
        #expect(await silent.send(Self.opening(.sleep, id: id), message: [1]))
        #expect(try await silent.status()?.statusCode == UInt32(Status.Code.deadlineExceeded.rawValue))
      }
      silent.close()
      #expect(await eventually { server.load.openCalls == 1 })
      #expect(server.log.count("cancelled") == 2)
      waiting.cancel()
      _ = try? await waiting.value
    }
    await server.stop()
  }

  @Test func `refusals that nobody reads are dropped`() {
    let all = ServerBudget()
    var limits = CallLimits()
    limits.maxQueuedBytesPerPeer = 1000
    let peer = PeerBudget(name: "p", all: all, limits: limits)
    #expect(peer.takesStatuses && peer.hasRoom(isReserved: false))
    peer.queued.add(PeerBudget.floor + 1000)
    #expect(!peer.hasRoom(isReserved: false) && peer.takesStatuses)
    peer.queued.add(PeerBudget.floor)
    #expect(!peer.hasRoom(isReserved: true) && !peer.takesStatuses)
  }

  @Test func `what all peers have is bounded, and a peer that has nothing is never shut out`() {
    let all = ServerBudget()
    var limits = CallLimits()
    (limits.maxQueuedBytes, limits.maxUnreadBytes) = (80 << 20, 80 << 20)
    let greedy = PeerBudget(name: "robot/greedy", all: all, limits: limits)
    let modest = PeerBudget(name: "robot/modest", all: all, limits: limits)
    greedy.queued.add(81 << 20)
    greedy.unread.add(70 << 20)
    #expect(all.queued.bytes == 81 << 20)
    #expect(!greedy.hasRoom(isReserved: false) && !greedy.hasShare(isReserved: false))
    // The last eighth is for who has nothing yet, and all have no more than all may have, but for a few bytes each.
    #expect(!greedy.mayLeaveUnread(1 << 20))
    #expect(modest.hasRoom(isReserved: false) && modest.mayLeaveUnread(10 << 20))
    #expect(!modest.mayLeaveUnread(11 << 20))
    greedy.unread.add(10 << 20)
    #expect(!modest.mayLeaveUnread(1 << 20) && modest.mayLeaveUnread(FlowControl.initialCredit))
    modest.queued.add(PeerBudget.floor)
    modest.unread.add(1 << 20)
    // A call of it may begin, what it answers waits.
    #expect(!modest.hasRoom(isReserved: false) && modest.hasShare(isReserved: false))
    #expect(!modest.mayLeaveUnread(1 << 20) && modest.hasRoom(isReserved: true))
    #expect(modest.beyondUnread.hasPrefix("All peers together"))
    greedy.unread.add(130 << 20)
    #expect(greedy.beyondUnread.hasPrefix("robot/greedy has"))
  }

  @Test func `a header above 64 KiB is none`() async throws {
    let server = try await EchoServer()
    let peer = try RawPeer(.request, to: server.endpoint)
    var header = Self.opening(.unary, id: 1)
    header.metadata = [MetadataEntry(key: "a", value: .text(String(repeating: "b", count: 60_000)))]
    #expect(await peer.send(header, message: [1]))
    #expect(try await peer.status()?.statusCode == 0)
    header.metadata = [MetadataEntry(key: "a", value: .text(String(repeating: "b", count: 66_000)))]
    #expect(await peer.send(header, message: [1]))
    #expect(try await peer.status()?.statusCode == UInt32(Status.Code.invalidArgument.rawValue))
    // Our client does not send it: nobody would know whose it is.
    try await withClient(server.endpoint) { client in
      let error = await #expect(throws: RPCError.self) {
        try await client.exchange(
          EchoService.Method.unary.descriptor, metadata: ["a": "\(String(repeating: "b", count: 66_000))"],
          options: .defaults
        ) {
          try await $0.write([1])
        } _: {
          for try await _ in $0.messages {}
        }
      }
      #expect(error?.code == .resourceExhausted)
    }
    await server.stop()
  }

  @Test func `descriptors: the limit is raised, and what to do names it`() throws {
    let (soft, hard) = DescriptorLimit.current
    var limit = rlimit(rlim_cur: rlim_t(max(256, min(hard, 1 << 20) - 1)), rlim_max: rlim_t(hard))
    #expect(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
    #expect(DescriptorLimit.raise() == min(hard, 1 << 20) && DescriptorLimit.current.soft >= soft)
    #expect(DescriptorLimit.advice.contains("\(DescriptorLimit.current.soft) file descriptors"))
    #expect(DescriptorLimit.isExhausted(EMFILE) && !DescriptorLimit.isExhausted(EAGAIN))
    let before = counted(.acceptFailed)
    try DescriptorLimit.acceptFailed(EMFILE, at: Endpoint("tcp://127.0.0.1:1"))
    #expect(counted(.acceptFailed) > before)
  }
}
