"""Errors of the disk, injected into the real binaries by libfiu (Debian's fiu-utils).

`write` is left out: libzmq and the event loop write to their eventfds with it and may assume that this works, and libfiu
cannot tell a file from an eventfd. The product's files and SQLite's are written with `pwrite`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import os
import pathlib
import random
import subprocess

_POINTS = (
    ("posix/io/rw/pwrite", (errno.ENOSPC, errno.EIO)),
    # Writes less than it was asked to.
    ("posix/io/rw/pwrite/reduce", (0,)),
    ("posix/io/sync/fdatasync", (errno.EIO, errno.ENOSPC)),
    ("posix/io/sync/fsync", (errno.EIO, errno.ENOSPC)),
    ("posix/io/oc/open", (errno.EMFILE, errno.EIO, errno.ENOSPC)),
    ("posix/io/dir/rename", (errno.EIO, errno.ENOSPC)),
    ("posix/io/rw/ftruncate", (errno.EIO,)),
)
# From "now and then" to "nearly always".
_PROBABILITIES = (0.005, 0.5)


@dataclasses.dataclass(frozen=True)
class Injection:
    """What fails in one life of a process, and whether it does so from the start."""

    point: str
    number: int
    probability: float
    from_start: bool
    # Base name of libfiu's control pipes.
    control: pathlib.Path

    @staticmethod
    def draw(chance: random.Random, control: pathlib.Path) -> Injection:
        """One of the points, with one of its errors; most begin only once the process runs."""
        point, numbers = chance.choice(_POINTS)
        low, high = map(math.log, _PROBABILITIES)
        return Injection(
            point, chance.choice(numbers), math.exp(chance.uniform(low, high)), chance.random() < 0.25, control
        )

    @property
    def command(self) -> str:
        failure = f",failinfo={self.number}" if self.number else ""
        return f"enable_random name={self.point},probability={self.probability:.4f}{failure}"

    def wrap(self, command: list[str]) -> list[str]:
        """The command line that starts a program with libfiu in it."""
        at_once = ["-c", self.command] if self.from_start else []
        return ["fiu-run", "-x", "-f", str(self.control), *at_once, *command]

    def begin(self, pid: int) -> bool:
        """Lets a running process fail from now on; false where it does not listen (any more)."""
        try:
            done = subprocess.run(
                ["fiu-ctrl", "-f", str(self.control), "-c", self.command, str(pid)],
                capture_output=True,
                timeout=2,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and not done.stdout.strip()

    def tidy(self, pid: int) -> None:
        """Removes the pipes of a process that was killed."""
        for end in ("in", "out"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.control}-{pid}.{end}")
