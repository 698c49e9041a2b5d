// swift-tools-version: 6.2
import PackageDescription

// MARK: Settings

let strict: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
]

/// LibTorch, unpacked from its PyPI wheel by `deploy/setup`.
let libtorch = Context.environment["LIBTORCH_DIR"] ?? Context.packageDirectory + "/.libtorch"

/// `FLEETLOOP_TESTS=Bus,Trials` leaves out every other test target and what only those need: a small machine need not
/// compile it all.
let chosenTests = Set(
  (Context.environment["FLEETLOOP_TESTS"] ?? "").split(separator: ",").map { "\($0)Tests" })

// MARK: Dependencies

let grpc = Target.Dependency.product(name: "GRPCCore", package: "grpc-swift-2")
let grpcInProcess = Target.Dependency.product(name: "GRPCInProcessTransport", package: "grpc-swift-2")
let grpcCodeGen = Target.Dependency.product(name: "GRPCCodeGen", package: "grpc-swift-2")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")

// MARK: Target builders

func shared(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, path: "Shared/\(name)", swiftSettings: strict)
}

/// A service is a library, which tests import, and a small executable around it.
func service(_ name: String, _ dependencies: [Target.Dependency]) -> [Target] {
  [
    .target(
      name: "\(name)Core",
      dependencies: ["ServiceKit", "Bus", "Schemas", grpc, logging, lifecycle] + dependencies,
      path: "Services/\(name)/Core", swiftSettings: strict),
    .executableTarget(
      name: name.lowercased(),
      dependencies: [.byName(name: "\(name)Core"), "ServiceKit", argumentParser, logging, lifecycle],
      path: "Services/\(name)/Main", swiftSettings: strict),
  ]
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> [Target] {
  guard chosenTests.isEmpty || chosenTests.contains("\(name)Tests") else { return [] }
  return [
    .testTarget(
      name: "\(name)Tests", dependencies: dependencies, path: "Tests/\(name)Tests", swiftSettings: strict)
  ]
}

// MARK: Targets

let cLibraries: [Target] = [
  .systemLibrary(name: "CZeroMQ", path: "Shared/C/CZeroMQ"),
  .target(name: "CPoller", path: "Shared/C/CPoller"),
  .systemLibrary(name: "CHeap", path: "Shared/C/CHeap"),
  .systemLibrary(name: "CProtobufC", path: "Shared/C/CProtobufC"),
  .target(name: "CSchemas", dependencies: ["CProtobufC"], path: "Shared/C/CSchemas"),
  .target(name: "CPlugin", dependencies: ["CProtobufC"], path: "Shared/C/CPlugin"),
  .target(
    name: "CVideo", path: "Shared/C/CVideo",
    linkerSettings: [.linkedLibrary("avcodec"), .linkedLibrary("avutil"), .linkedLibrary("swscale")]),
  .target(
    name: "CTorch", path: "Shared/C/CTorch",
    cxxSettings: [
      // -isystem keeps LibTorch's own warnings out; its templates are unusable at -O0.
      .unsafeFlags([
        "-isystem", libtorch + "/include",
        "-isystem", libtorch + "/include/torch/csrc/api/include",
        "-O2", "-Wall", "-Werror",
      ])
    ],
    linkerSettings: [
      .linkedLibrary("torch_cpu"), .linkedLibrary("c10"),
      .unsafeFlags(["-L" + libtorch + "/lib", "-Xlinker", "-rpath", "-Xlinker", libtorch + "/lib"]),
    ]),
]

let modules: [Target] = [
  shared("Schemas", ["CSchemas", "CProtobufC", grpc]),
  shared("Bus", ["CZeroMQ", "CPoller", "Schemas", grpc, logging, collections]),
  shared("Policy", ["CTorch", "Schemas", "Artifacts"]),
  shared("Artifacts", ["Schemas", "Storage", crypto]),
  shared("Trials", ["CVideo", "Schemas", "Storage", crypto, grdb]),
  shared("Statistics", []),
  shared("Storage", [crypto, grdb]),
  shared("ServiceKit", ["CHeap", "Bus", "Schemas", grpc, logging, lifecycle, unixSignals, argumentParser]),
]

let services: [Target] = [
  service("Ingest", ["Trials", "Storage"]),
  service("Training", ["Policy", "Trials", "Artifacts", "Storage"]),
  service("Inference", ["Policy", "Artifacts", "Storage"]),
  service("Monitor", ["Statistics", "Storage", nioCore, nioPosix, nioHTTP1]),
  service("Rollout", ["Statistics", "Artifacts", "Storage"]),
  service("Robot", ["Policy", "Trials", "Artifacts", "Storage"]),
  service("Fleet", ["Statistics", "Storage", argumentParser]),
].flatMap { $0 }

let generator: [Target] = [
  .executableTarget(
    name: "protoc-gen-fleetloop", dependencies: ["CPlugin", "CProtobufC", grpcCodeGen],
    path: "proto/Generator", swiftSettings: strict)
]

/// What more than one test target needs.
let testSupport: [Target] = [
  .target(
    name: "TestSupport", dependencies: ["Schemas", "Storage", grpc], path: "Tests/Support",
    swiftSettings: strict)
]

/// Hosts that are driven by a seed, and what is proved with them.
let simulation: [Target] = [
  .target(
    name: "SimulationKit", dependencies: ["Storage", grpc], path: "Tests/Simulation/Kit",
    swiftSettings: strict),
  .target(
    name: "Simulations",
    dependencies: [
      "SimulationKit", "IngestCore", "RobotCore", "RolloutCore", "Artifacts", "Trials", "Storage", "Schemas",
      "ServiceKit", grpc, logging,
    ], path: "Tests/Simulation/Scenarios", swiftSettings: strict),
  .executableTarget(
    name: "simulation", dependencies: ["Simulations", argumentParser], path: "Tests/Simulation/Main",
    swiftSettings: strict),
]

let suites: [Target] = [
  tests("Simulation", ["SimulationKit", "Simulations", "Storage"]),
  tests("Schemas", ["Schemas", grpc]),
  tests("Bus", ["Bus", "Schemas", grpc, grpcInProcess, logging]),
  tests("Policy", ["TestSupport", "Policy", "Artifacts", "Schemas"]),
  tests("Artifacts", ["TestSupport", "Artifacts", "Schemas", crypto]),
  tests("Trials", ["TestSupport", "SimulationKit", "Trials", "Schemas", "Storage", grdb]),
  tests("Statistics", ["Statistics"]),
  tests("Storage", ["TestSupport", "Storage"]),
  tests("ServiceKit", ["TestSupport", "ServiceKit", "Bus", "Schemas", grpc, logging]),
  tests(
    "Ingest",
    [
      "TestSupport", "IngestCore", "Trials", "Storage", "Bus", "Schemas", "ServiceKit", grpc, logging,
    ]),
  tests(
    "Training",
    [
      "TestSupport", "TrainingCore", "Policy", "Artifacts", "Trials", "Bus", "Schemas", "ServiceKit", grpc,
      logging,
    ]),
  tests(
    "Inference",
    ["TestSupport", "InferenceCore", "Policy", "Artifacts", "Bus", "Schemas", "ServiceKit", grpc, logging]),
  tests(
    "Monitor",
    [
      "TestSupport", "MonitorCore", "Bus", "Schemas", "ServiceKit", "Statistics", grpc, lifecycle, logging,
      nioCore,
    ]),
  tests(
    "Rollout",
    ["TestSupport", "RolloutCore", "Artifacts", "Bus", "Schemas", "ServiceKit", "Statistics", grpc]),
  tests(
    "Robot",
    [
      "TestSupport", "SimulationKit", "RobotCore", "IngestCore", "MonitorCore", "Storage", "Policy", "Trials",
      "Artifacts",
      "Bus", "Schemas",
      "ServiceKit", grpc, grpcInProcess, logging,
    ]),
  tests("Fleet", ["TestSupport", "FleetCore", "Bus", "Schemas", "ServiceKit", "Storage", grpc]),
  tests("EndToEnd", ["Schemas", "Storage", "TestSupport", "Trials"]),
].flatMap { $0 }

/// The targets that the chosen tests need, executables of their services included; everything where none was chosen.
func chosen(_ all: [Target]) -> [Target] {
  guard !chosenTests.isEmpty, !chosenTests.contains("EndToEndTests") else { return all }
  let names = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })
  var needed: Set<String> = []
  func need(_ name: String) {
    guard let target = names[name], needed.insert(name).inserted else { return }
    for case .byNameItem(let dependency, _) in target.dependencies { need(dependency) }
  }
  for test in chosenTests {
    need(test)
    need(String(test.dropLast("Tests".count)).lowercased())
  }
  return all.filter { needed.contains($0.name) }
}

let targets = chosen(
  cLibraries + modules + services + generator + testSupport + simulation + suites)

/// What `Tests/Benchmarks` measures.
let products: [Product] = ["Bus", "Schemas"].compactMap { name in
  targets.contains { $0.name == name } ? .library(name: name, targets: [name]) : nil
}

let package = Package(
  name: "FleetLoop",
  products: products,
  dependencies: [
    .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
  ],
  targets: targets,
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11,
  cxxLanguageStandard: .cxx20
)
