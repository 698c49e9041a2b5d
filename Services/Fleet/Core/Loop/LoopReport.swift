import Foundation
import Statistics

extension LoopSummary {
  /// Tables for people.
  package func render() -> String {
    var text = ""
    var success = TextTable(["version", "task", "success", "95 % interval"])
    for (version, tasks) in self.success.sorted(by: { $0.key < $1.key }) {
      for (task, count) in tasks.sorted(by: { $0.key < $1.key }) {
        success.add(version, task, count.text, count.interval)
      }
      let all = tasks.values.reduce(Count(successes: 0, trials: 0)) {
        Count(successes: $0.successes + $1.successes, trials: $0.trials + $1.trials)
      }
      success.add(version, "all", all.text, all.interval)
    }
    text += "\nClosed-loop success on layouts that nobody trained on\n" + success.render()
    var models = TextTable(["model", "parent", "tasks", "parameters", "steps", "seconds", "samples/s"])
    for model in self.models {
      models.add(
        model.version, model.parent.isEmpty ? "–" : model.parent, "\(model.tasks.count)",
        "\(model.parameters)",
        "\(model.optimizerSteps)", String(format: "%.0f", model.trainSeconds),
        String(format: "%.0f", model.samplesPerSecond))
    }
    text += "\nModels\n" + models.render() + "\n"
    for experiment in self.experiments {
      text +=
        "Experiment \(experiment.baseline) (\(experiment.baselineSuccesses)/\(experiment.baselineTrials)) against "
      text += "\(experiment.candidate) (\(experiment.candidateSuccesses)/\(experiment.candidateTrials)): "
      text += "\(experiment.decision), p = \(String(format: "%.4f", experiment.pValue))\n"
    }
    if let transfer = self.transfer {
      text +=
        "Transfer to \(transfer.task): \(transfer.demonstrations) demonstrations, \(transfer.optimizerSteps) steps, "
      text += "\(transfer.successes)/\(transfer.trials) successes\n"
    }
    for rollback in self.rollbacks {
      text += "Rollback \(rollback.from) → \(rollback.to): detected after "
      text += String(format: "%.1f s, restored in %.1f s\n", rollback.detectSeconds, rollback.restoreSeconds)
    }
    for alert in self.alerts {
      text += "Alert \(alert.name)\(alert.robot.isEmpty ? "" : " on \(alert.robot)"): \(alert.state)\n"
    }
    text += "Trials: \(self.trials.published) published, \(self.trials.stored) stored, "
    let rejected = self.trials.rejected.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(
      separator: ", ")
    text +=
      "\(self.trials.rejected.values.reduce(0, +)) rejected\(rejected.isEmpty ? "" : " (\(rejected))"), "
    text += "\(self.trials.lost) lost, \(self.trials.duplicates) duplicates\n"
    text += "Time: " + self.phases.map { "\($0.name) \(Int($0.seconds)) s" }.joined(separator: ", ")
    text += "; \(Int(self.phases.reduce(0) { $0 + $1.seconds })) s in all\n"
    return text
  }
}

extension LoopSummary.Count {
  var text: String { "\(self.successes)/\(self.trials)" }
  var interval: String {
    let interval = Proportion(successes: Int(self.successes), trials: Int(self.trials)).wilsonInterval()
    return String(format: "%.0f … %.0f %%", interval.lowerBound * 100, interval.upperBound * 100)
  }
}
