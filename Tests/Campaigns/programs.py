"""The product's executables as processes that may be killed and started again at any time."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import time

import injection

# A process that ends so hit a trap, a failed assertion or memory that is not its own.
TRAPS = {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE}
# How the runtime's backtrace begins, and what libzmq, the C library and Swift say before it.
_CRASH = re.compile(r"Program crashed|Fatal error|Assertion failed|terminate called")
# The library of the frame in which a thread crashed.
_CRASHED_IN = re.compile(r"crashed:[^\n]*\n[^\n]* in (\S+)")
_OPENING_LIBRARIES = {"libdispatch.so", "libc10.so"}
_TAIL_LINES = 40
_READY_SECONDS = 60.0
_END_SECONDS = 10.0


class CampaignError(RuntimeError):
    """The campaign itself cannot go on, e.g. because a process does not start; says what to do."""


@dataclasses.dataclass(frozen=True)
class Exit:
    """How a process ended: `status` as subprocess gives it, negative for a signal."""

    name: str
    status: int
    asked: bool
    injected: injection.Injection | None
    log: str

    @property
    def is_crash(self) -> bool:
        """Nobody asked for it, and no injected error explains it. A disk that fails never explains a trap of ours."""
        if self.asked:
            return False
        if self.injected and -self.status in TRAPS:
            # libdispatch and libc10 read /proc and /sys, and trap where that cannot be opened.
            crashed = _CRASHED_IN.search(self.log)
            return self.injected.point != "posix/io/oc/open" or not crashed or crashed[1] not in _OPENING_LIBRARIES
        return not self.injected

    def __str__(self) -> str:
        how = signal.Signals(-self.status).name if self.status < 0 else f"status {self.status}"
        return f"{self.name} ended by itself ({how}{', errors injected' if self.injected else ''}); its log:\n{self.log}"


class Program:
    """One executable: a command line, a log file, and at most one living process."""

    def __init__(self, name: str, command: list[str], log: pathlib.Path, says_ready: bool = True):
        self.name, self.command, self.log, self.says_ready = name, command, log, says_ready
        self.process: subprocess.Popen | None = None
        self.starts = 0
        self.endpoints: dict[str, str] = {}
        self.errors: injection.Injection | None = None
        self._asked, self._output = False, b""

    def start(self, errors: injection.Injection | None = None) -> None:
        """Starts it, under libfiu where `errors` says so."""
        self.errors, self._asked, self._output, self.endpoints = errors, False, b"", {}
        command = self.command if errors is None else errors.wrap(self.command)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the campaign, which then ends them in its own way.
                start_new_session=True,
                # libgomp's threads must sleep, not spin, while they wait: as `fleet up` starts them.
                env={**os.environ, "OMP_WAIT_POLICY": "passive"},
            )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.starts += 1

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    @property
    def is_ready(self) -> bool:
        """It said READY. Does not wait."""
        if not self.process or self.process.poll() is not None:
            return False
        if not self.says_ready or self.endpoints:
            return True
        with contextlib.suppress(BlockingIOError):
            self._output += os.read(self.process.stdout.fileno(), 65_536)
        if b"\n" not in self._output:
            return False
        words = self._output.decode(errors="replace").split()
        if words[:1] != ["READY"]:
            raise CampaignError(f"{self.name} said {words[:5]} where READY was due")
        self.endpoints = dict(word.split("=", 1) for word in words[2:] if "=" in word)
        return True

    def wait_ready(self) -> None:
        """Raises CampaignError where it is not ready in a minute."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self.is_ready:
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise CampaignError(f"{self.name} did not get ready; its log:\n{self.tail()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """`kill -9`; returns once it is gone."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, and SIGKILL where that is not heard. Returns the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        if not self.process or self.process.poll() is not None:
            return 0
        self._asked = True
        self.process.send_signal(number)
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_END_SECONDS)
        return self.process.returncode

    def ended(self) -> Exit | None:
        """How its process ended, told once; None while it lives."""
        if not self.process or self.process.poll() is None:
            return None
        process, self.process = self.process, None
        process.stdout.close()
        return Exit(self.name, process.returncode, self._asked, self.errors, self.tail())

    def tail(self) -> str:
        """The end of its log, or the beginning of the last backtrace in it."""
        text = self.log.read_bytes()[-200_000:].decode(errors="replace") if self.log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        crash = max((number for number, line in enumerate(lines) if _CRASH.search(line)), default=None)
        chosen = lines[-_TAIL_LINES:] if crash is None else lines[crash : crash + _TAIL_LINES]
        return "\n".join("  | " + line[:240] for line in chosen)
