import Foundation
import TestSupport
import Testing

/// What an operator meets at the command line, with services and synthetic robots as real processes.
@Suite("operator", .serialized, .timeLimit(.minutes(4)))
struct OperatorTests {
  private let folder: TemporaryFolder
  private let data: String

  init() throws {
    self.folder = try TemporaryFolder()
    self.data = "\(self.folder.path)/data"
  }

  /// Starts a fleet and waits until its robots are there.
  private func up(robots: Int) async throws -> FleetProcess {
    let fleet = try FleetProcess([
      "up", "--data", self.data, "--robots", "\(robots)", "--simulator", "synthetic",
    ])
    try await eventually("the fleet is up; it said: \(fleet.errors)") {
      guard fleet.errors.contains("fleet is up") else { return false }
      return try await self.robots().count == robots
    }
    return fleet
  }

  private func end(_ fleet: FleetProcess) async throws {
    fleet.send(SIGTERM)
    try await fleet.end(within: .seconds(20))
    #expect(fleet.leftBehind.isEmpty)
  }

  private func fleet(_ arguments: String...) async throws -> Program.Result {
    try await Program.run(Program.built("fleet"), arguments + ["--data", self.data])
  }

  private func json<Value: Decodable>(_ type: Value.Type, _ arguments: String...) async throws -> Value {
    let result = try await Program.run(
      Program.built("fleet"), arguments + ["--data", self.data, "--json"])
    return try JSONDecoder().decode(type, from: Data(result.output.utf8))
  }

  private struct Robot: Decodable { var robot, state, reason: String }
  private struct Trial: Decodable { var robot, trial, outcome: String }
  private struct Trials: Decodable { var trials: [Trial], next: String }
  private struct Order: Decodable { var work, robot, state: String }
  private struct Job: Decodable { var job, state: String }

  private func robots() async throws -> [Robot] { try await self.json([Robot].self, "robots") }
  private func trials(of robot: String) async throws -> Int {
    try await self.json(Trials.self, "trials", "--robot", robot, "--limit", "1000").trials.count
  }

  @Test func `stop and resume tell the truth, and no robot moves unasked`() async throws {
    let fleet = try await self.up(robots: 2)
    // A name that is wrong must not keep the others from stopping.
    let partly = try await self.fleet("robots", "stop", "nosuch", "robot-1", "--reason", "someone is near")
    #expect(partly.status == 1)
    #expect(partly.output.contains("nosuch IS NOT KNOWN TO BE STOPPED"))
    #expect(partly.output.contains("robot-1 is stopped"))
    try await eventually("the list says why") {
      try await self.robots().contains {
        $0.robot == "robot-1" && $0.state == "stopped" && $0.reason == "someone is near"
      }
    }
    // Nobody gives work to a robot that stands still without saying so.
    let refused = try await self.fleet("robots", "work", "synthetic", "--trials", "2", "--robot", "robot-1")
    #expect(refused.status == 1)
    #expect(refused.errors.contains("--when-resumed"), "\(refused.errors)")
    let left = try await self.fleet(
      "robots", "work", "synthetic", "--trials", "2", "--robot", "robot-1", "--when-resumed")
    #expect(left.status == 0, "\(left.errors)")
    let resumed = try await self.fleet("robots", "resume", "robot-1", "--reason", "they left", "--by", "ada")
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(resumed.output.contains("its stop is lifted"), "\(resumed.output)")
    try await eventually("what was meant for afterwards is done") {
      try await self.trials(of: "robot-1") == 2
    }
    // The robot says how it is once a second, and two trials of this one take less.
    try await eventually("the list says why it may work") {
      try await self.robots().contains { $0.reason == "they left (ada)" }
    }
    let again = try await self.fleet("robots", "resume", "robot-1")
    #expect(again.status == 0 && again.output.contains("neither stopped nor unhealthy"), "\(again.output)")

    // What waited when the stop came stays where it is, until somebody says so.
    _ = try await self.fleet(
      "robots", "work", "synthetic", "--trials", "400", "--first-seed", "100", "--robot", "robot-1",
      "--when-resumed")
    try await eventually("robot-1 is at it") { try await self.trials(of: "robot-1") > 2 }
    let stopped = try await self.fleet("robots", "stop", "--all")
    #expect(stopped.status == 0 && stopped.output.contains("trials are held"), "\(stopped.output)")
    let held = try await self.fleet("robots", "resume", "--all")
    #expect(held.status == 0 && held.output.contains("are held and not done"), "\(held.output)")
    #expect(held.output.contains("robot-2 may work"))
    #expect(try await self.json([Order].self, "work", "list").allSatisfy { $0.state == "held" })
    try await eventually("what was filed before is stored") {
      try await self.json([Filed].self, "robots").allSatisfy { $0.spooled == 0 }
    }
    let before = try await self.trials(of: "robot-1")
    try await Task.sleep(for: .seconds(3))
    #expect(try await self.trials(of: "robot-1") == before)
    let going = try await self.fleet("robots", "resume", "robot-1", "--continue")
    #expect(going.status == 0 && going.output.contains("held trials go on"), "\(going.output)")
    try await eventually("it goes on") { try await self.trials(of: "robot-1") > before }
    let cancelled = try await self.fleet("work", "cancel", "--all")
    #expect(cancelled.status == 0 && cancelled.output.contains("trials are dropped"), "\(cancelled.output)")
    try await eventually("nothing is left") { try await self.json([Order].self, "work").isEmpty }
    try await self.end(fleet)
  }

  private struct Filed: Decodable { var spooled: Int }

  @Test func `what goes on is seen, followed again and ended, and services that are away are waited for`()
    async throws
  {
    let fleet = try await self.up(robots: 2)
    // Once both programs have said what they can do: until then their agents take any task.
    try await eventually("an unknown task is refused with those that robots offer") {
      let unknown = try await self.fleet("robots", "work", "nosuchtask", "--trials", "1")
      return unknown.status == 1
        && unknown.errors.contains("No robot has a task 'nosuchtask'. Robots offer: synthetic.")
    }
    #expect(try await self.json([Order].self, "work").isEmpty)

    // Ctrl-C says what goes on, and the command that it names ends it.
    let work = try FleetProcess(["robots", "work", "synthetic", "--trials", "900", "--data", self.data])
    try await eventually("robots are at it") { try await self.trials(of: "robot-1") > 0 }
    work.send(SIGINT)
    try await work.end(within: .seconds(20))
    #expect(work.status == 1)
    let words = work.errors.split { $0 == " " || $0 == "\n" }.map(String.init)
    let place = try #require(words.firstIndex(of: "cancel"), "\(work.errors)")
    let id = words[place + 1]
    #expect(id.hasPrefix("work-") && words.suffix(from: place).contains(self.data))
    let cancelled = try await self.fleet("work", "cancel", id)
    // A robot may have done its last trial meanwhile; what it has left is gone in either case.
    #expect([0, 1].contains(cancelled.status))
    try await eventually("nothing is left") { try await self.json([Order].self, "work").isEmpty }
    #expect(try await self.fleet("work", "watch", id).status == 1)

    // Ingest hangs for 20 seconds: the command waits and ends well.
    let patient = try FleetProcess([
      "robots", "work", "synthetic", "--trials", "60", "--first-seed", "5000", "--data", self.data,
    ])
    let ingest = try #require(fleet.children(named: "ingest").first)
    try await eventually("robots are at it") {
      try await self.json([Order].self, "work").contains { $0.work.hasPrefix("work-") }
    }
    kill(ingest, SIGSTOP)
    try await eventually("the command says that it waits") { patient.errors.contains("waiting for ingest") }
    try await Task.sleep(for: .seconds(12))
    #expect(patient.status == nil, "\(patient.errors)")
    kill(ingest, SIGCONT)
    try await patient.end(within: .seconds(90))
    #expect(patient.status == 0, "\(patient.errors)")
    #expect(patient.errors.contains("ingest answers again"))

    // Everything that hangs is told at once, not one deadline after the other.
    let services = ["ingest", "training", "inference", "monitor", "rollout"].flatMap(fleet.children(named:))
    #expect(services.count == 5)
    for service in services { kill(service, SIGSTOP) }
    let began = ContinuousClock.now
    let status = try await self.fleet("status")
    let took = ContinuousClock.now - began
    for service in services { kill(service, SIGCONT) }
    #expect(status.status == 1)
    #expect(status.output.components(separatedBy: "hangs").count == 6, "\(status.output)")
    // 1.5 s by its own deadlines; one after the other it would be 7.5 s and more.
    #expect(took < .seconds(6), "\(took)")
    try await eventually("the fleet is well again") { try await self.fleet("status").status == 0 }
    try await self.end(fleet)
  }

  @Test func `training jobs and experiments are listed, followed and ended`() async throws {
    let fleet = try await self.up(robots: 2)
    #expect(try await self.fleet("robots", "work", "synthetic", "--trials", "8").status == 0)
    let first = try await self.fleet(
      "train", "start", "--version", "v1", "--seconds", "1", "--image-size", "64")
    #expect(first.status == 0, "\(first.errors)")
    let second = try await self.fleet("train", "start", "--version", "v2", "--parent", "v1", "--seconds", "1")
    #expect(second.status == 0, "\(second.errors)")

    let long = try await self.json(
      Job.self, "train", "start", "--version", "v3", "--seconds", "600", "--image-size", "64", "--detach")
    let watch = try FleetProcess(["train", "watch", long.job, "--data", self.data])
    try await eventually("it is listed as running") {
      try await self.json([Job].self, "train").contains { $0.job == long.job && $0.state == "running" }
    }
    watch.send(SIGINT)
    try await watch.end(within: .seconds(20))
    #expect(watch.status == 1)
    #expect(watch.errors.contains("fleet train cancel \(long.job)"), "\(watch.errors)")
    let cancelled = try await self.fleet("train", "cancel", long.job)
    #expect(cancelled.status == 0 && cancelled.output.contains("is cancelled"), "\(cancelled.errors)")
    let over = try await self.fleet("train", "cancel", long.job)
    #expect(over.status == 0)

    #expect(try await self.fleet("rollout", "release", "v1").status == 0)
    try await eventually("robots have v1") { try await self.fleet("robots").output.contains("v1") }
    let experiment = try await self.json(
      Experiment.self, "rollout", "experiment", "--baseline", "v1", "--candidate", "v2")
    let following = try FleetProcess([
      "rollout", "experiments", "watch", experiment.experiment, "--data", self.data,
    ])
    try await eventually("it is followed") { following.errors.contains("experiment") }
    let ended = try await self.fleet("rollout", "experiments", "end", experiment.experiment)
    #expect(ended.status == 0, "\(ended.errors)")
    try await following.end(within: .seconds(20))
    #expect(following.status == 0, "\(following.errors)")
    #expect(try await self.json([Experiment].self, "rollout", "experiments").map(\.state) != ["running"])
    #expect(try await self.fleet("rollout", "experiments", "end", "nosuch").status == 1)
    try await self.end(fleet)
  }

  private struct Experiment: Decodable { var experiment, state: String }

  @Test func `a service that keeps crashing leaves the fleet up, and comes back once its cause is gone`()
    async throws
  {
    let fleet = try await self.up(robots: 1)
    let page = try #require(try self.pageAddress())
    #expect(!page.hasSuffix(":0"))
    let (store, away) = ("\(self.data)/ingest", "\(self.data)/ingest.away")
    try FileManager.default.moveItem(atPath: store, toPath: away)
    #expect(FileManager.default.createFile(atPath: store, contents: nil))
    kill(try #require(fleet.children(named: "ingest").first), SIGKILL)
    try await eventually("it crashed again and again", within: .seconds(60)) {
      fleet.errors.contains("starting it again in 4.0 seconds")
    }
    try await eventually("the operator is alerted", within: .seconds(60)) {
      let alerts = try await self.fleet("alerts").output
      return alerts.contains("ServiceUnresponsive") && alerts.contains("ingest")
    }
    let monitor = try #require(fleet.children(named: "monitor").first)
    kill(monitor, SIGKILL)
    try await eventually("the monitor is started again", within: .seconds(60)) {
      let started = fleet.children(named: "monitor")
      return !started.isEmpty && !started.contains(monitor)
    }
    #expect(fleet.status == nil)
    let status = try await self.fleet("status")
    #expect(status.status == 1)
    #expect(status.output.contains("ingest is down for"), "\(status.output)")
    #expect(status.output.contains("\(self.data)/logs/ingest.log"))
    try FileManager.default.removeItem(atPath: store)
    try FileManager.default.moveItem(atPath: away, toPath: store)
    // By now its next start may be the longest pause away, of 60 s.
    try await eventually("it is back", within: .seconds(100)) { try await self.fleet("status").status == 0 }
    // The page is where it was.
    #expect(try self.pageAddress() == page)
    let answer = try await Program.run("/usr/bin/env", ["curl", "-s", "-m", "5", "http://\(page)/healthz"])
    #expect(answer.status == 0)

    // A robot that somebody else starts with this fleet's file works, and goes on.
    let own = try Program.start(
      Program.built("robot"),
      [
        "--config", "\(self.data)/config.json", "--set", "robot.name=own", "--set",
        "robot.data=\(self.folder.path)/own", "--set", "robot.rpc=ipc://\(self.folder.path)/own.sock",
      ])
    try await eventually("the fleet sees it") { try await self.robots().contains { $0.robot == "own" } }
    try await Task.sleep(for: .seconds(2))
    #expect(own.isRunning)
    own.terminate()
    own.waitUntilExit()
    #expect(own.terminationStatus == 0)
    try await self.end(fleet)
  }

  @Test func `status comes whatever hangs, and names it`() async throws {
    let fleet = try await self.up(robots: 1)
    try await eventually("all is well") { try await self.fleet("status").status == 0 }
    for name in ["inference", "monitor"] {
      let hung = try #require(fleet.children(named: name).first)
      kill(hung, SIGSTOP)
      defer { kill(hung, SIGCONT) }
      // It promises 3 seconds; `timeout` ends it with 124 where it takes more than three times as long, which a machine that is
      // busy with other tests does not make it take.
      let status = try await Program.run(
        "/usr/bin/env", ["timeout", "10", Program.built("fleet"), "status", "--data", self.data])
      #expect(status.status == 1, "\(status.output)\(status.errors)")
      let line = status.output.split(separator: "\n").first { $0.contains(name) }
      #expect(line?.contains("hangs") == true, "\(status.output)")
    }
    try await eventually("all is well again") { try await self.fleet("status").status == 0 }
    try await self.end(fleet)
  }

  /// Host and port of the page, as the fleet's file names them.
  private func pageAddress() throws -> String? {
    let file = try Data(contentsOf: URL(filePath: "\(self.data)/config.json"))
    return try JSONDecoder().decode([String: [String: String]].self, from: file)["monitor"]?["http"]
  }
}
