package import Schemas
package import Storage
import Synchronization

/// The model that the robot holds, and the one that it is to hold.
package final class HeldModel: Sendable {
  private struct State {
    var installed: ModelKeeper.Installed?
    var memory = VersionMemory()
    var installError = ""

    mutating func remember() {
      self.memory.acts(
        with: self.installed?.policy.version ?? "", sha256: self.installed?.sha256 ?? [],
        serial: self.installed?.serial ?? 0)
    }
  }

  private let state = Mutex(State())
  private let runtime: Runtime
  package let changed: Wakeup

  package init(runtime: Runtime = .system) {
    self.runtime = runtime
    self.changed = Wakeup(runtime: runtime)
  }

  /// What trials that begin now act with: nil also where its time is over. A trial that runs keeps what it began with.
  package var current: (any LocalPolicy)? { self.installed?.policy }

  /// ``current`` with what its manifest says.
  package var installed: ModelKeeper.Installed? {
    self.state.withLock { state in
      guard let installed = state.installed else { return nil }
      let expires = installed.expiresUnixNanos
      return expires != 0 && expires <= self.runtime.unixNanos() ? nil : installed
    }
  }

  package var desired: DesiredVersion { self.state.withLock { $0.memory.desired } }
  package var memory: VersionMemory { self.state.withLock { $0.memory } }
  /// Why the desired version could not be installed; empty where it could.
  package var installError: String { self.state.withLock { $0.installError } }

  /// Takes up what an earlier agent left.
  package func restore(_ memory: VersionMemory, _ installed: ModelKeeper.Installed?) {
    self.state.withLock { state in
      state = State(installed: installed, memory: memory)
      if installed != nil { state.remember() }
    }
    self.changed.notify()
  }

  /// Takes the fleet's wish; one that is no newer is ignored. A publication of another epoch is not followed, but a reason to ask.
  package func desire(_ desired: DesiredVersion, from source: VersionMemory.Source) {
    let isNews = self.state.withLock { state in
      guard state.memory.follow(desired, from: source) else {
        return source == .publication && desired.generation > 0 && desired.epoch != state.memory.desired.epoch
      }
      state.installError = ""
      return true
    }
    if isNews { self.changed.notify() }
  }

  /// Trials that begin from now on act with it; with none for nil.
  package func install(_ installed: ModelKeeper.Installed?) {
    self.state.withLock { state in
      state.installed = installed
      state.remember()
      state.installError = ""
    }
    self.changed.notify()
  }

  /// What was desired cannot be installed. Where the wish has changed meanwhile, that is no matter any more.
  package func refuse(_ error: String, for desired: DesiredVersion) {
    self.state.withLock { if $0.memory.desired == desired { $0.installError = error } }
  }
}
