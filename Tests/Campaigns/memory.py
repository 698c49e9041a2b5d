"""Resident memory of processes, watched while something happens to them."""

from __future__ import annotations

import threading
from types import TracebackType

from programs import Program

_INTERVAL_SECONDS = 0.05


def resident_megabytes(pid: int) -> float:
    """0 where there is no such process (any more)."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0.0


class MemoryWatch(threading.Thread):
    """As a context: what each process had when it was first looked at, and at most meanwhile, in MB.

    `first`: those first readings by process id, for all watches: what one attack leaves is no room for the next.
    """

    def __init__(self, programs: list[Program], first: dict[int, float]):
        super().__init__(daemon=True)
        self._programs, self._ending = programs, threading.Event()
        self.peak = self.now()
        self.before = {program.name: first.setdefault(program.pid, self.peak[program.name]) for program in programs}

    def now(self) -> dict[str, float]:
        return {program.name: resident_megabytes(program.pid) for program in self._programs}

    def __enter__(self) -> MemoryWatch:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        self.join(5)

    def run(self) -> None:
        while not self._ending.wait(_INTERVAL_SECONDS):
            for name, megabytes in self.now().items():
                self.peak[name] = max(self.peak[name], megabytes)
