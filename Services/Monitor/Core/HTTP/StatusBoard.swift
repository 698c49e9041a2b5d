import Foundation
package import Schemas
package import ServiceKit
import Synchronization

/// What the monitor knew at its last round. HTTP reads this and nothing else: it never asks the owner of the state.
package final class StatusBoard: Sendable {
  /// One round's knowledge.
  package struct Facts: Sendable {
    package var state = MonitorState()
    /// Ingest's last count of every outcome, and when it gave it; Unix nanoseconds, 0 for never.
    package var counts: [OutcomeCount] = []
    package var countsUnixNanos: Int64 = 0
    /// Rollout's last words, and when they came.
    package var rollout = RolloutDescription()
    package var rolloutUnixNanos: Int64 = 0
    package var serviceMetrics: [ServiceMetrics] = []
    package var services: [ServiceRow] = []
    package var unixNanos: Int64 = 0

    package init() {}
  }

  private struct Post {
    var facts = Facts()
    var number = 0
  }

  private struct Drawn {
    var number = -1
    var report: StatusReport?
    var json: Data?
    var metrics: Data?
  }

  private let post = Mutex(Post())
  private let drawn = Mutex(Drawn())
  private let metrics: MetricsRegistry
  private let busMetrics: @Sendable () -> String

  /// - Parameter busMetrics: the bus's lines for `/metrics`.
  package init(metrics: MetricsRegistry, busMetrics: @escaping @Sendable () -> String = { "" }) {
    self.metrics = metrics
    self.busMetrics = busMetrics
  }

  package func post(_ facts: Facts) {
    self.post.withLock { post in
      post.facts = facts
      post.number += 1
    }
  }

  /// `/api/status`, drawn once a round at most.
  var json: Data {
    self.draw { drawn, report, _ in
      let json = drawn.json ?? report.json
      drawn.json = json
      return json
    }
  }

  /// `/metrics`, drawn once a round at most.
  var metricsPage: Data {
    self.draw { drawn, report, facts in
      if let page = drawn.metrics { return page }
      report.record(in: self.metrics)
      let page = MetricsPage(
        own: self.metrics.renderPrometheus() + self.busMetrics(), others: facts.serviceMetrics)
      let data = Data(page.text.utf8)
      drawn.metrics = data
      return data
    }
  }

  private func draw(_ body: (inout Drawn, StatusReport, Facts) -> Data) -> Data {
    // The lock that rounds wait for is held for a copy only.
    let post = self.post.withLock { $0 }
    return self.drawn.withLock { drawn in
      if drawn.number != post.number { drawn = Drawn(number: post.number) }
      let report = drawn.report ?? StatusReport(post.facts)
      drawn.report = report
      return body(&drawn, report, post.facts)
    }
  }
}
