import Foundation
import TestSupport
import Testing

@Suite("wrong usage", .timeLimit(.minutes(1)))
struct UsageTests {
  @Test(arguments: [
    (["frobnicate"], "frobnicate"), (["loop", "--nonsense"], "--nonsense"),
    (["loop", "--json", "/nowhere/summary.json"], "/nowhere"), (["rollout", "release"], "<version>"),
    (["up", "--simulator", "real"], "metaworld or synthetic"), (["bench", "soak", "--rate", "0"], "--rate"),
    (["robots", "stop"], "--all"), (["work", "cancel"], "--all"),
    (["trials", "--outcome", "luck"], "aborted"),
    (["trials", "--since", "yesterday"], "2h"),
    (["trials", "--data", "/nowhere"], "/nowhere is no fleet's folder"),
    (["down", "--data", "/nowhere"], "/nowhere is no fleet's folder"),
    (["status", "--data", "/nowhere"], "/nowhere is no fleet's folder"),
    (["keys", "new", "r", "--role", "king", "--keys", "/nowhere"], "no role"),
  ]) func `words that fleet does not know end with status 64`(words: [String], told: String) async throws {
    let result = try await Program.run(Program.built("fleet"), words)
    #expect(result.status == 64)
    #expect(result.errors.contains(told), "\(result.errors)")
  }

  @Test func `a fleet that is not there is told, with what to do`() async throws {
    let folder = try TemporaryFolder()
    try #"{"ingest": {"rpc": "ipc://\#(folder.path)/none"}}"#.write(
      toFile: "\(folder.path)/config.json", atomically: true, encoding: .utf8)
    let result = try await Program.run(Program.built("fleet"), ["trials", "--data", folder.path])
    #expect(result.status == 1)
    #expect(result.errors.contains("fleet status --data \(folder.path)"), "\(result.errors)")
    #expect(!result.errors.contains("key"), "a fleet without keys has none that could be wrong")
  }

  @Test(arguments: [
    (["train", "start", "--version", "v1"], "fleet train list"),
    (["train", "cancel", "j1"], "fleet train list"),
    (["rollout", "experiment", "--baseline", "v1", "--candidate", "v2"], "fleet rollout experiments"),
  ]) func `a call that is interrupted before its answer says what is not known, and how to look`(
    words: [String], command: String
  ) async throws {
    let folder = try TemporaryFolder()
    let none = #"{"rpc": "ipc://\#(folder.path)/none"}"#
    try #"{"training": \#(none), "rollout": \#(none)}"#.write(
      toFile: "\(folder.path)/config.json", atomically: true, encoding: .utf8)
    let fleet = try FleetProcess(words + ["--data", folder.path])
    try await eventually("it hears of signals", within: .seconds(20)) { fleet.takes(SIGINT) }
    fleet.send(SIGINT)
    try await fleet.end(within: .seconds(20))
    #expect(fleet.status == 1)
    #expect(fleet.errors.contains("is not known"), "\(fleet.errors)")
    #expect(fleet.errors.contains("\(command) --data \(folder.path)"), "\(fleet.errors)")
  }

  @Test(arguments: [["robots", "stop"], ["robots", "resume"], ["work", "cancel"]])
  func `all robots of a fleet that has none is no success`(words: [String]) async throws {
    let folder = try TemporaryFolder()
    try #"{"fleet": {"robots": ""}, "monitor": {"rpc": "ipc://\#(folder.path)/none"}}"#.write(
      toFile: "\(folder.path)/config.json", atomically: true, encoding: .utf8)
    let result = try await Program.run(
      Program.built("fleet"), words + ["--all", "--data", folder.path])
    #expect(result.status == 1)
    #expect(result.errors.contains("No robot is known"), "\(result.errors)")
    #expect(result.errors.contains("the monitor does not answer"), "\(result.errors)")
  }

  @Test
  func `following work waits for a robot that is silent, and Ctrl-C names a command that can be copied`()
    async throws
  {
    let folder = try TemporaryFolder()
    try #"{"fleet": {"robots": "robot-1", "sockets": "\#(folder.path)"}}"#.write(
      toFile: "\(folder.path)/config.json", atomically: true, encoding: .utf8)
    let watch = try FleetProcess(["work", "watch", "work-7", "--data", folder.path])
    try await eventually("it says that it waits") { watch.errors.contains("waiting for robot-1 …") }
    #expect(watch.status == nil, "\(watch.errors)")
    watch.send(SIGINT)
    try await watch.end(within: .seconds(20))
    #expect(watch.status == 1)
    #expect(
      watch.errors.split(separator: "\n").contains("End it: fleet work cancel work-7 --data \(folder.path)"),
      "\(watch.errors)")
  }

  @Test(arguments: ["ingest", "training", "inference", "monitor", "rollout", "robot"])
  func `a service says which settings it knows, and refuses others`(service: String) async throws {
    let program = Program.built(service)
    let listing = try await Program.run(program, ["--list-settings"])
    #expect(listing.status == 0)
    #expect(listing.output.contains("\(service).data\t"))
    let unknown = try await Program.run(program, ["--set", "\(service).datum=x"])
    #expect(unknown.status == 64)
    #expect(unknown.errors.contains("\(service).data"), "\(unknown.errors)")
    let folder = try TemporaryFolder()
    let malformed = try await Program.run(
      program, ["--set", "\(service).rpc=tcp://nowhere", "--set", "\(service).data=\(folder.path)/data"])
    #expect(malformed.status == 1)
    let unheard = try await Program.run("/usr/bin/env", ["FLEETLOOP_LOG_LEVLE=info", program])
    #expect(unheard.status == 64)
    #expect(unheard.errors.contains("FLEETLOOP_LOG_LEVLE"), "\(unheard.errors)")
    #expect(malformed.errors.contains("tcp://HOST:PORT"), "\(malformed.errors)")
  }
}
