package import ArgumentParser
import Bus

/// `fleet keys`.
package struct Keys: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Make key pairs, and say who may talk on the bus.",
    subcommands: [New.self, Authorize.self, Revoke.self, List.self], defaultSubcommand: List.self)
  package init() {}

  struct New: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a process's key pair. The secret stays in the folder; the public key is printed.")
    @Argument(help: "Name: of a robot, or of a service (ingest, training, inference, monitor, rollout).")
    var name: String
    @Option(help: "Role: robot, ingest, training, inference, monitor, rollout or operator.")
    var role: String
    @Option(help: "Folder of the keys of the process.") var keys: String

    func run() async throws {
      let pair = try KeyStore(folder: self.keys).create(name: self.name, role: try Keys.role(self.role))
      print(pair.publicKey)
    }
  }

  struct Authorize: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Let the holder of a public key in, from the next connection on; no restart is needed.")
    @Argument(help: "Name that the key stands for.") var name: String
    @Argument(help: "Public key, as `fleet keys new` printed it.") var publicKey: String
    @Option(help: "Role: robot, ingest, training, inference, monitor, rollout or operator.")
    var role: String
    @Option(help: "Folder of the keys of a process that is to let it in; repeat for more.")
    var keys: [String]

    func run() async throws {
      let key = KeyStore.AuthorizedKey(
        name: self.name, role: try Keys.role(self.role), publicKey: self.publicKey)
      for folder in self.keys { try KeyStore(folder: folder).authorize(key) }
      print("\(self.name) is authorized")
    }
  }

  struct Revoke: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Turn a name away from now on.")
    @Argument(help: "Name that was authorized.") var name: String
    @Option(help: "Folder of the keys of a process that is to turn it away; repeat for more.")
    var keys: [String]

    func run() async throws {
      for folder in self.keys { try KeyStore(folder: folder).revoke(self.name) }
      print("\(self.name) is revoked")
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Authorized keys.")
    @Option(help: "Folder of keys.") var keys: String
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
      let rows = KeyStore(folder: self.keys).authorized()
      try Listing(
        columns: ["name", "role", "public key"], rows: rows.map { [$0.name, $0.role.rawValue, $0.publicKey] }
      ).show(json: self.json ? rows : nil)
    }
  }

  static func role(_ text: String) throws -> Role {
    guard let role = Role(rawValue: text) else {
      throw ValidationError(
        "'\(text)' is no role. Roles: \(Role.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return role
  }
}
