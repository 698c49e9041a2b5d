import ArgumentParser
import GRPCCore
import Schemas
import ServiceKit

/// What an action did to one robot.
struct RobotDeed: Encodable, Sendable {
  var robot: String
  /// Whether what was asked for is so now.
  var done: Bool
  /// What was done, or why not.
  var detail: String
  /// Trials that wait from before the robot stood still, and are not done.
  var held: UInt32 = 0

  /// - Throws: `ExitCode.failure` unless it is done with every robot, and known that these are all.
  static func show(_ deeds: RobotSelection.Answers<RobotDeed>, json: Bool) throws {
    let text = deeds.answers.map { "\($0.robot) \($0.detail)" }.joined(separator: "\n")
    try Listing.show(text, json: json ? deeds.answers : nil)
    if let doubt = deeds.doubt { ProgressReport().line(doubt) }
    if deeds.doubt != nil || deeds.answers.contains(where: { !$0.done }) { throw ExitCode.failure }
  }
}

extension Robots {
  /// Robots that a command is about.
  struct Chosen: ParsableArguments {
    @Argument(help: "Names of robots.") var names: [String] = []
    @Flag(help: "Every robot: those of the fleet's configuration, and those that the monitor knows.")
    var all = false

    func validate() throws {
      guard self.names.isEmpty == self.all else {
        throw ValidationError("Name the robots, or say --all.")
      }
    }

    var selection: RobotSelection { self.all ? .all : .named(self.names) }
  }

  struct Stop: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Safety stop: robots hold still until they are resumed; what waits is held.",
      discussion: """
        Ends with 1 where a robot did not say that it stopped, and with --all where the monitor did not say which robots \
        there are.
        """)
    @OptionGroup var options: FleetOptions
    @OptionGroup var chosen: Chosen
    @Option(help: "Why; the page and `fleet robots` show it.") var reason: String?

    func run() async throws {
      let selection = self.chosen.selection
      let request = StopRequest(reason: self.reason ?? "stopped by \(Operator.name)")
      let deeds = try await self.options.withClients { clients in
        try await Self.stop(selection, clients, request)
      }
      try RobotDeed.show(deeds, json: self.options.json)
    }

    /// How long robots have to answer, once all of them and then again those that did not: there are more robots than lines, and
    /// those that hang must not keep the others from being asked, nor those whose link is slow.
    static let passes: [Duration] = [.milliseconds(500), .milliseconds(1_500), .seconds(5)]

    /// Stops robots. One that answers late may hear it again.
    /// - Throws: ``FleetError`` `.refused` where there is none.
    static func stop(
      _ selection: RobotSelection, _ clients: FleetClients, _ request: StopRequest,
      passes: [Duration] = passes
    ) async throws -> RobotSelection.Answers<RobotDeed> {
      try await selection.each(clients) { names in
        var answers: [String: FleetClients.RobotAnswer<RobotStatus>] = [:]
        for limit in passes {
          let silent = names.filter { answers[$0]?.isAway ?? true }
          for answer in await clients.ask(
            robots: silent, { try await $0.stop(request, options: .within(limit)) })
          {
            answers[answer.robot] = answer
          }
        }
        return names.compactMap { answers[$0].map(Self.deed) }
      }
    }

    private static func deed(_ answer: FleetClients.RobotAnswer<RobotStatus>) -> RobotDeed {
      guard let status = answer.answer else {
        return RobotDeed(
          robot: answer.robot, done: false, detail: "IS NOT KNOWN TO BE STOPPED: \(answer.failure ?? "")")
      }
      let waiting = status.held > 0 ? "\(status.held) trials are held" : ""
      let words = ["is stopped", waiting, DiskDoubt.text(status.heartbeat?.unkept ?? "")]
      return RobotDeed(
        robot: answer.robot, done: true, detail: words.filter { !$0.isEmpty }.joined(separator: "; "),
        held: status.held)
    }
  }

  struct Resume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Let robots back to work after a failure or a stop.",
      discussion: """
        Lifts the robot's own stop and the monitor's word that it is unhealthy, whichever there is. Trials that waited when \
        the robot was stopped are not done unless --continue is given.
        """)
    @OptionGroup var options: FleetOptions
    @OptionGroup var chosen: Chosen
    @Option(help: "Who says so; the login name where none is given.") var by: String?
    @Option(help: "Why it may work again.") var reason: String = ""
    @Flag(name: .customLong("continue"), help: "Do the trials that waited when it was stopped, too.")
    var continuing = false

    func run() async throws {
      let selection = self.chosen.selection
      let by = self.by ?? Operator.name
      let (reason, continuing, again) = (self.reason, self.continuing, self.options.again)
      let deeds = try await self.options.withClients { clients in
        try await selection.each(clients) { names in
          await withTaskGroup(of: (Int, RobotDeed).self) { group in
            for (index, robot) in names.enumerated() {
              group.addTask {
                let resuming = Resuming(
                  clients: clients, robot: robot, by: by, reason: reason, continuing: continuing, again: again
                )
                return (index, await resuming.run())
              }
            }
            return await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
          }
        }
      }
      try RobotDeed.show(deeds, json: self.options.json)
    }
  }
}

/// Lets one robot back to work: what the monitor said of it, and what was said to it.
struct Resuming: Sendable {
  /// How long a robot may take to hear from the monitor that it is healthy.
  static let hearing: Duration = .seconds(5)

  let clients: FleetClients
  let robot: String
  let by: String
  let reason: String
  let continuing: Bool
  /// What names this fleet in a command.
  let again: String

  private enum Health { case lifted, fine, unknown(String) }

  func run() async -> RobotDeed {
    let before = await self.ask { try await $0.getStatus(.init(), options: .within(.seconds(5))) }
    // The monitor first: a robot that is still unhealthy would not go on with what is held.
    let health = await self.liftHealth()
    guard let status = before.answer else {
      let rest = if case .lifted = health { "; the monitor calls it healthy again" } else { "" }
      return RobotDeed(
        robot: self.robot, done: false,
        detail: "\(before.failure ?? ""): a stop of its own is not lifted\(rest)")
    }
    if case .lifted = health { await self.waitUntilHealthy() }
    let request = ResumeRequest(
      continueWork: self.continuing,
      reason: self.reason.isEmpty ? "resumed by \(self.by)" : "\(self.reason) (\(self.by))")
    let after = await self.ask { try await $0.resume(request, options: .within(.seconds(5))) }
    guard let now = after.answer else {
      return RobotDeed(robot: self.robot, done: false, detail: "is not resumed: \(after.failure ?? "")")
    }
    return self.describe(status, now, health)
  }

  private func describe(_ before: RobotStatus, _ now: RobotStatus, _ health: Health) -> RobotDeed {
    let state = now.heartbeat?.state ?? .unspecified
    var words: [String] = []
    if before.heartbeat?.state == .stopped { words.append("its stop is lifted") }
    if case .lifted = health { words.append("it counts as healthy again") }
    if self.continuing, before.held > now.held { words.append("\(before.held - now.held) held trials go on") }
    let may = [.idle, .working].contains(state)
    var detail = may ? "may work" : "IS STILL \("\(state)".uppercased())"
    if case .unknown(let why) = health, !may { words.append("the monitor did not lift it: \(why)") }
    detail += words.isEmpty ? ": it was neither stopped nor unhealthy" : ": " + words.joined(separator: ", ")
    let doubt = DiskDoubt.text(now.heartbeat?.unkept ?? "")
    if !doubt.isEmpty { detail += "; \(doubt)" }
    if now.held > 0 {
      detail +=
        "\n"
        + CommandHint.text(
          "\(now.held) trials that waited are held and not done.",
          [
            .init("Do them", "fleet robots resume \(self.robot) --continue"),
            .init("Drop them", "fleet work cancel --all --robot \(self.robot)"),
          ], again: self.again)
    }
    return RobotDeed(robot: self.robot, done: may, detail: detail, held: now.held)
  }

  private func ask(
    _ call: @Sendable @escaping (FleetClients.Robot) async throws -> RobotStatus
  ) async -> FleetClients.RobotAnswer<RobotStatus> {
    await self.clients.ask(robots: [self.robot], call)[0]
  }

  private func liftHealth() async -> Health {
    do {
      let answer = try await self.clients.monitor.resumeRobot(
        ResumeRobotRequest(robot: self.robot, by: self.by, reason: self.reason), options: .within(.seconds(5))
      )
      return answer.wasUnhealthy ? .lifted : .fine
    } catch {
      return .unknown(
        (error as? RPCError).map { $0.isAway ? "it does not answer" : $0.message } ?? "\(error)")
    }
  }

  private func waitUntilHealthy() async {
    let deadline = ContinuousClock.now + Self.hearing
    while ContinuousClock.now < deadline {
      let answer = await self.ask { try await $0.getStatus(.init(), options: .within(.seconds(2))) }
      if let state = answer.answer?.heartbeat?.state, state != .unhealthy { return }
      do { try await Task.sleep(for: .milliseconds(100)) } catch { return }
    }
  }
}
