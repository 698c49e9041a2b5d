package import NIOCore

/// What one caller of the status page may take.
package struct HTTPLimits: Sendable, Hashable {
  /// Bytes of a request's target, and of each header.
  package var fieldBytes = 8 << 10
  /// Bytes of a request's target and headers together.
  package var headBytes = 32 << 10
  package var headerCount = 100
  /// Connections at once. One more closes the one that has been waited for longest, of the address with the most.
  package var connections = 256
  /// From a connection's begin to its first whole request.
  package var firstRequest: TimeAmount = .seconds(10)
  /// From an answer to the next whole request, within which the answer must have been taken as well.
  package var nextRequest: TimeAmount = .seconds(30)
  /// In which a refused caller may read why.
  package var farewell: TimeAmount = .seconds(1)

  package init() {}
}
