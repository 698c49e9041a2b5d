"""Long campaigns against the real processes, as `deploy/test` runs them: `python Tests/Campaigns faults|hostile …`."""

from __future__ import annotations

import random
import signal
import sys

import faultcampaign
import hostilecampaign
import usage


def main() -> int:
    chosen = usage.parse(sys.argv[1:])
    seed = random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    # SIGTERM ends it as Ctrl-C does: with every process and folder taken along.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    binaries = chosen.binaries.resolve()
    if not (binaries / "ingest").exists():
        print(f"{binaries} holds no executables; build them with: swift build", file=sys.stderr)
        return 1
    try:
        if chosen.campaign == "faults":
            return faultcampaign.run(binaries, chosen.kills, chosen.minutes, seed)
        return hostilecampaign.run(binaries, chosen.minutes, seed, chosen.only)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
