import Foundation
import Testing

@testable import ServiceKit

@Suite("ServiceConfiguration")
struct ServiceConfigurationTests {
  static let rpc = Setting("ingest.rpc", default: "tcp://127.0.0.1:7401", help: "Where calls come in.")
  static let limit = Setting(
    "ingest.limit", default: 10, help: "How many.", allowed: "between 1 and 100",
    where: { (1...100).contains($0) })
  static let fast = Setting("ingest.fast-path", default: false, help: "Whether.")
  static let known: [any AnySetting] = [rpc, limit, fast]

  private func file(_ text: String) throws -> String {
    let path = FileManager.default.temporaryDirectory.appending(path: "settings-\(UUID().uuidString).json")
      .path
    try Data(text.utf8).write(to: URL(filePath: path))
    return path
  }

  @Test func `command line beats environment beats file beats default`() throws {
    let path = try self.file(
      #"{"ingest": {"rpc": "file", "limit": 3, "fast-path": true}, "robot": {"other": 1}}"#)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let environment = ["FLEETLOOP_INGEST_LIMIT": "4", "FLEETLOOP_INGEST_RPC": "environment"]
    let all = try ServiceConfiguration(
      service: "ingest", commandLine: ["ingest.rpc=line"], environment: environment, file: path,
      known: Self.known)
    #expect(try all(Self.rpc) == "line")
    #expect(try all(Self.limit) == 4)
    #expect(try all(Self.fast))
    let none = try ServiceConfiguration(
      service: "ingest", environment: [:], known: Self.known)
    #expect(try none(Self.rpc) == "tcp://127.0.0.1:7401")
    #expect(try !none(Self.fast))
  }

  @Test(arguments: [
    (["ingest.nothing=1"], "Unknown setting 'ingest.nothing'"), (["ingest.rpc"], "not key=value"),
  ])
  func `bad words on the command line are refused by name`(words: [String], expected: String) {
    #expect {
      try ServiceConfiguration(
        service: "ingest", commandLine: words, environment: [:], known: Self.known)
    } throws: {
      "\($0)".contains(expected)
    }
  }

  @Test(arguments: ["FLEETLOOP_INGEST_RCP", "FLEETLOOP_INGST_RPC", "FLEETLOOP_BUS_KEY"])
  func `unknown variables are refused by name, those of other processes are not`(name: String) throws {
    let known = Self.known + CommonSettings.all
    let fine = ["FLEETLOOP_TRAINING_ANYTHING": "1", "FLEETLOOP_TESTS": "Bus", "PATH": "/bin"]
    _ = try ServiceConfiguration(service: "ingest", environment: fine, known: known)
    #expect {
      try ServiceConfiguration(
        service: "ingest", environment: fine.merging([name: "1"]) { $1 }, known: known)
    } throws: {
      ($0 as? ServiceError)?.code == .invalidConfiguration && "\($0)".contains(name)
    }
  }

  @Test(arguments: [#"{"ingst": {"rpc": "x"}}"#, #"{"log": {"levle": "info"}}"#])
  func `sections and keys that no process has are refused by name`(text: String) throws {
    let known = Self.known + CommonSettings.all
    let path = try self.file(text)
    let fine = try self.file(
      #"{"robot": {"anything": 1}, "fleet": {"robots": "a"}, "log": {"level": "error"}}"#)
    defer { for path in [path, fine] { try? FileManager.default.removeItem(atPath: path) } }
    _ = try ServiceConfiguration(service: "ingest", environment: [:], file: fine, known: known)
    #expect {
      try ServiceConfiguration(service: "ingest", environment: [:], file: path, known: known)
    } throws: {
      "\($0)".contains(path) && ("\($0)".contains("ingst") || "\($0)".contains("log.levle"))
    }
  }

  @Test(arguments: ["abc", "0", "101", "1.5", ""])
  func `values out of range name the setting and its source`(text: String) throws {
    let configuration = try ServiceConfiguration(
      service: "ingest", environment: ["FLEETLOOP_INGEST_LIMIT": text], known: Self.known)
    #expect {
      try configuration(Self.limit)
    } throws: {
      "\($0)".contains("ingest.limit") && "\($0)".contains("the environment")
    }
  }

  @Test(arguments: [
    "nonsense", "[1]", #"{"ingest": 3}"#, #"{"ingest": {"rpc": {"deep": 1}}}"#, #"{"ingest": {"typo": 1}}"#,
  ])
  func `malformed files are refused with their path`(text: String) throws {
    let path = try self.file(text)
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect {
      try ServiceConfiguration(
        service: "ingest", environment: [:], file: path, known: Self.known)
    } throws: {
      $0 is ServiceError && "\($0)".contains(path)
    }
  }

  @Test func `a missing file is named`() {
    #expect {
      try ServiceConfiguration(
        service: "ingest", environment: [:], file: "/nowhere/at.json", known: Self.known)
    } throws: {
      "\($0)".contains("/nowhere/at.json")
    }
  }
}
