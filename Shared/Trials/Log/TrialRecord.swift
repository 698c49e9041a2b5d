public import Schemas

/// A whole trial: its events in order, from header to end.
public struct TrialRecord: Sendable, Hashable {
  public var events: [TrialEvent]

  public init(events: [TrialEvent]) { self.events = events }

  public var robot: String { self.events.first?.robot ?? "" }
  public var trialID: String { self.events.first?.trialID ?? "" }

  public var header: TrialHeader? {
    guard case .header(let header) = self.events.first?.event else { return nil }
    return header
  }

  public var end: TrialEnd? {
    guard case .end(let end) = self.events.last?.event else { return nil }
    return end
  }

  /// All steps in the order they came.
  public var steps: [TrialStep] {
    self.events.flatMap { event -> [TrialStep] in
      guard case .steps(let run) = event.event else { return [] }
      return run.steps
    }
  }

  /// Number of steps, counted without copying them.
  var stepCount: Int {
    self.events.reduce(0) { sum, event in
      guard case .steps(let run) = event.event else { return sum }
      return sum + run.steps.count
    }
  }

  /// The same trial without pictures; events keep their numbers.
  package var withoutImages: TrialRecord {
    TrialRecord(
      events: self.events.compactMap { event in
        var event = event
        switch event.event {
        case .video: return nil
        case .steps(var run):
          for index in run.steps.indices { run.steps[index].image = [] }
          event.event = .steps(run)
        default: break
        }
        return event
      })
  }

  public var videos: [TrialVideo] {
    self.events.compactMap { event -> TrialVideo? in
      guard case .video(let video) = event.event else { return nil }
      return video
    }
  }
}

/// Where a trial's events lie in the log.
public struct LogPosition: Sendable, Hashable {
  /// Name of the file in the log's folder.
  public var file: String
  /// Offset and length of the chunk that holds it.
  public var offset: Int
  public var length: Int

  public init(file: String, offset: Int, length: Int) {
    self.file = file
    self.offset = offset
    self.length = length
  }
}
