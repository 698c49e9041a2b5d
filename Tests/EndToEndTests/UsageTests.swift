import Foundation
import TestSupport
import Testing

@Suite("wrong usage", .timeLimit(.minutes(1)))
struct UsageTests {
  @Test(arguments: [
    (["frobnicate"], "frobnicate"), (["loop", "--nonsense"], "--nonsense"),
    (["loop", "--json", "/nowhere/summary.json"], "/nowhere"), (["rollout", "release"], "<version>"),
    (["up", "--simulator", "real"], "metaworld or synthetic"), (["bench", "soak", "--rate", "0"], "--rate"),
    (["keys", "new", "r", "--role", "king", "--keys", "/nowhere"], "no role"),
  ]) func `words that fleet does not know end with status 64`(words: [String], told: String) async throws {
    let result = try await Command.run(Command.built("fleet"), words)
    #expect(result.status == 64)
    #expect(result.errors.contains(told), "\(result.errors)")
  }

  @Test func `a fleet that is not there is told, with what to do`() async throws {
    let folder = try TemporaryFolder()
    try #"{"ingest": {"rpc": "ipc://\#(folder.path)/none"}}"#.write(
      toFile: "\(folder.path)/config.json", atomically: true, encoding: .utf8)
    let result = try await Command.run(Command.built("fleet"), ["trials", "--data", folder.path])
    #expect(result.status == 1)
    #expect(result.errors.contains("fleet status"), "\(result.errors)")
  }

  @Test(arguments: ["ingest", "training", "inference", "monitor", "rollout", "robot"])
  func `a service says which settings it knows, and refuses others`(service: String) async throws {
    let program = Command.built(service)
    let listing = try await Command.run(program, ["--list-settings"])
    #expect(listing.status == 0)
    #expect(listing.output.contains("\(service).data\t"))
    let unknown = try await Command.run(program, ["--set", "\(service).datum=x"])
    #expect(unknown.status == 64)
    #expect(unknown.errors.contains("\(service).data"), "\(unknown.errors)")
    let malformed = try await Command.run(program, ["--set", "\(service).rpc=tcp://nowhere"])
    #expect(malformed.status == 1)
    #expect(malformed.errors.contains("tcp://HOST:PORT"), "\(malformed.errors)")
  }
}
