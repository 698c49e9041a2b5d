import NIOCore
import NIOHTTP1

/// One connection: whole requests in, answers out, and an end to what is slow, too long or not understood.
final class RequestHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let site: StatusSite
  private let limits: HTTPLimits
  /// Told of each whole request.
  private let noteUse: () -> Void
  private var request: HTTPRequestHead?
  private var deadline: Scheduled<Void>?
  private var isAnswering = false
  private var isClosing = false

  init(site: StatusSite, limits: HTTPLimits, noteUse: @escaping () -> Void) {
    self.site = site
    self.limits = limits
    self.noteUse = noteUse
  }

  func channelActive(context: ChannelHandlerContext) {
    self.close(context, in: self.limits.firstRequest)
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    self.deadline?.cancel()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !self.isClosing else { return }
    switch Self.unwrapInboundIn(data) {
    case .head(let head):
      guard !Self.hasBody(head) else {
        self.refuse(context, .init(.payloadTooLarge, "A request has no body here."))
        return
      }
      self.request = head
    case .body: break
    case .end:
      guard let request = self.request else { return }
      self.request = nil
      // Who asks again without having taken the last answer would fill the memory with answers.
      guard !self.isAnswering else {
        context.close(promise: nil)
        return
      }
      self.noteUse()
      let answer = self.site.answer(request)
      if request.isKeepAlive {
        self.write(context, answer, for: request, isLast: false)
        self.close(context, in: self.limits.nextRequest)
      } else {
        self.end(context, answer, for: request)
      }
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard !self.isClosing else { return }
    switch error as? HTTPParserError {
    case .headerOverflow:
      self.refuse(
        context,
        .init(
          .requestHeaderFieldsTooLarge,
          "A target or header may have \(self.limits.fieldBytes) bytes, all together "
            + "\(self.limits.headBytes) in \(self.limits.headerCount) headers."))
    case nil: context.close(promise: nil)
    default: self.refuse(context, .init(.badRequest, "This is no HTTP/1 request."))
    }
  }

  private static func hasBody(_ head: HTTPRequestHead) -> Bool {
    head.headers.contains(name: "Transfer-Encoding")
      || head.headers["Content-Length"].contains { $0 != "0" }
  }

  // MARK: Answers

  private func refuse(_ context: ChannelHandlerContext, _ answer: StatusSite.Answer) {
    guard !self.isAnswering else {
      context.close(promise: nil)
      return
    }
    self.end(context, answer, for: self.request)
  }

  /// Answers, and closes once the peer had time to read: to close with input unread would take the answer from it.
  private func end(
    _ context: ChannelHandlerContext, _ answer: StatusSite.Answer, for request: HTTPRequestHead?
  ) {
    self.isClosing = true
    self.write(context, answer, for: request, isLast: true)
    context.close(mode: .output, promise: nil)
    self.close(context, in: self.limits.farewell)
  }

  private func write(
    _ context: ChannelHandlerContext, _ answer: StatusSite.Answer, for request: HTTPRequestHead?, isLast: Bool
  ) {
    var headers = answer.headers
    headers.add(name: "Content-Length", value: "\(answer.body.readableBytes)")
    if isLast {
      headers.add(name: "Connection", value: "close")
    } else if request?.version == .http1_0 {
      headers.add(name: "Connection", value: "keep-alive")
    }
    self.isAnswering = true
    let head = HTTPResponseHead(version: .http1_1, status: answer.status, headers: headers)
    context.write(Self.wrapOutboundOut(.head(head)), promise: nil)
    if request?.method != .HEAD {
      context.write(Self.wrapOutboundOut(.body(.byteBuffer(answer.body))), promise: nil)
    }
    context.writeAndFlush(Self.wrapOutboundOut(.end(nil))).assumeIsolated().whenComplete { _ in
      self.isAnswering = false
    }
  }

  private func close(_ context: ChannelHandlerContext, in time: TimeAmount) {
    self.deadline?.cancel()
    self.deadline = context.eventLoop.assumeIsolated().scheduleTask(in: time) {
      context.close(promise: nil)
    }
  }
}
