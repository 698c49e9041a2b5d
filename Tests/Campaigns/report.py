"""What a campaign prints: lines with a time while it runs, and one line of numbers at its end."""

from __future__ import annotations

import dataclasses
import sys
import time

_BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _BEGAN:7.1f} s  {text}", flush=True)


@dataclasses.dataclass
class Result:
    """Counts of a campaign, and the promises that broke."""

    name: str
    seed: int
    kills: int = 0
    faults: int = 0
    published: int = 0
    stored: int = 0
    lost: int = 0
    duplicates: int = 0
    crashes: int = 0
    broken: list[str] = dataclasses.field(default_factory=list)

    def fail(self, promise: str) -> None:
        """A promise broke."""
        self.broken.append(promise)
        say(f"BROKEN: {promise}")

    def end(self) -> int:
        """Prints the last line, which scripts read. Returns the exit status."""
        for promise in self.broken:
            print(f"broken: {promise.splitlines()[0]}", file=sys.stderr, flush=True)
        print(
            f"{self.name} seed={self.seed} kills={self.kills} faults={self.faults} published={self.published} "
            f"stored={self.stored} lost={self.lost} duplicates={self.duplicates} crashes={self.crashes}",
            flush=True,
        )
        return 1 if self.broken or self.lost or self.duplicates or self.crashes else 0
