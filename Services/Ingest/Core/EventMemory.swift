import Schemas

extension TrialEvent {
  /// Bytes that the event takes in memory, about: its own, and what values of Swift take beside what they hold. An event of
  /// many empty steps has 2 bytes a step on its way and over a hundred here.
  /// - Parameter encoded: bytes on its way.
  func memory(encoded: Int) -> Int {
    // An entry in a table, the robot's and the trial's names.
    let own = 512
    // An allocation with its list's head, and an entry in the list that holds it.
    let list = 64
    var lists = self.unknownFields.numbers.count
    var values = 0
    switch self.event {
    case .header(let header): lists += 2 * header.labels.count + header.unknownFields.numbers.count
    case .steps(let run):
      lists += run.unknownFields.numbers.count
      values = run.steps.count * MemoryLayout<TrialStep>.stride
      for step in run.steps {
        lists += step.unknownFields.numbers.count
        lists += [step.jointAngles, step.action, step.expertAction].count { !$0.isEmpty }
        lists += (step.image.isEmpty ? 0 : 1) + (step.modelVersion.isEmpty ? 0 : 1)
      }
    case .video(let video): lists += video.unknownFields.numbers.count
    case .end(let end): lists += end.unknownFields.numbers.count
    case nil: break
    }
    return encoded + own + values + lists * list
  }
}
