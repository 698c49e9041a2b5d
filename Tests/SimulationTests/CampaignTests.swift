import Foundation
import Simulations
import Testing

@Suite("Campaign")
struct CampaignTests {
  /// A campaign of one scenario whose workers are a shell script; `$3` is its first seed, `$5` how many it is given.
  private func run(
    _ seeds: Range<UInt64>, patience: Duration = .seconds(60), _ script: String
  ) -> Campaign.Sum {
    let tell = """
      tell() { echo "began $1 delivery"; echo "ended 1 0 0 0 0 0 0 "; }
      told() { seed=$1; while [ $seed -lt $2 ]; do tell $seed; seed=$((seed + 1)); done; }
      """
    return Campaign(
      scenarios: [.delivery], patience: patience, command: ["/bin/sh", "-c", tell + "\n" + script, "worker"]
    ).run(seeds)
  }

  @Test func `every seed of which a worker tells counts once`() {
    let sum = self.run(1..<251, "told $3 $(($3 + $5))")
    #expect(sum.failures == [])
    #expect(sum.crashes == 0)
    #expect(sum.total.kills == 250)
  }

  @Test func `a worker that exits with 0 before its seeds are run is broken, and those behind are run`() {
    // Whoever begins with seed 1 leaves out 4 and what is behind it.
    let sum = self.run(
      1..<11,
      "if [ $3 = 1 ]; then told 1 4; echo 'began 4 delivery'; exit 0; fi; told $3 $(($3 + $5))")
    #expect(sum.crashes == 1)
    #expect(sum.failures.count == 1)
    #expect(sum.failures.first?.hasPrefix("seed 4 delivery: its process ended (0)") == true)
    #expect(sum.total.kills == 9)
  }

  @Test func `a worker that says nothing at all is broken, seed by seed`() {
    let sum = self.run(1..<4, "exit 0")
    #expect(sum.crashes == 3)
    #expect(sum.total.kills == 0)
  }

  @Test func `a report of another seed than the next counts for none`() {
    let sum = self.run(1..<4, "if [ $3 = 1 ]; then tell 1; tell 3; tell 1; exit 0; fi; told $3 $(($3 + $5))")
    #expect(sum.crashes == 1)
    #expect(sum.failures.first?.hasPrefix("seed 2 delivery") == true)
    #expect(sum.total.kills == 2)
  }

  @Test func `a seed that hangs is ended and told, and those behind are run`() {
    let sum = self.run(
      1..<4, patience: .seconds(2),
      "if [ $3 = 1 ]; then tell 1; echo 'began 2 delivery'; exec sleep 1000; fi; told $3 $(($3 + $5))")
    #expect(sum.crashes == 1)
    #expect(sum.failures.first?.contains("seed 2 delivery: nothing was heard of its process") == true)
    #expect(sum.total.kills == 2)
  }

  @Test func `a worker that ends badly behind its last seed is broken`() {
    let sum = self.run(1..<3, "told $3 $(($3 + $5)); exit 3")
    #expect(sum.crashes == 1)
    #expect(sum.total.kills == 2)
  }
}
