import ArgumentParser
import Bus
import RobotCore
import ServiceKit

@main
struct RobotMain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "robot",
    abstract: "The agent of one robot: spool, fallback policy, links, action safety, heartbeats.",
    discussion:
      "A control program connects to robot.rpc; see deploy/robots. Example: "
      + "robot --set robot.name=r1 --set robot.rpc=ipc:///tmp/r1 --set robot.data=data/r1")

  @OptionGroup var options: ServiceOptions

  func run() async throws {
    try await ServiceProcess.run("robot", options: self.options, settings: AgentSettings.all) { context in
      let settings = try AgentSettings(context.configuration)
      let keys = try context.configuration(CommonSettings.keys)
      let agent = try await RobotAgent(
        settings, security: { try BusSecurity.client(of: $0, keys: keys) }, load: EnginePolicy.load,
        metrics: context.metrics, logger: context.logger)
      let server = try await RPCServer(
        bind: context.configuration(EndpointSettings.robotRPC), keys: keys, context: context,
        services: [RobotServiceHandler(robot: agent.robot)])
      // The agent ends first: it makes the calls that the server waits for come to an end.
      return ServiceParts([server, agent], endpoints: [("rpc", "\(server.endpoint)")])
    }
  }
}
