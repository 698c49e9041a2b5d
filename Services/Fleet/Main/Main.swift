import ArgumentParser
import FleetCore
import Foundation

@main
struct Main {
  static func main() async {
    do {
      var command = try Fleet.parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      Fleet.exit(withError: Fleet.readable(error))
    }
  }
}
