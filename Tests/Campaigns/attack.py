"""What every attack is given, and what it is measured by."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Iterator

import zmq
from fleet import Fleet

# Who hears the attacks on agents: it does no work, so that its stops hold up nobody.
VICTIM = "robot-1"
# Who works meanwhile.
WORKER = "robot-2"


@dataclasses.dataclass
class Ground:
    """Where an attack takes place, and until when."""

    fleet: Fleet
    chance: random.Random
    deadline: float = 0.0
    # Memory of each process when it was first looked at, in MB, by its id.
    memory: dict[int, float] = dataclasses.field(default_factory=dict)
    # The request with which the honest reader reads stored trials.
    reading: bytes = b""
    # Promises that broke and that only the attack itself can see.
    broken: list[str] = dataclasses.field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.deadline

    def endpoint(self, setting: str) -> str:
        """Of a socket by the setting that names it; "robot.rpc" is the victim's."""
        return self.fleet.agent_socket(VICTIM) if setting == "robot.rpc" else self.fleet.socket(setting)

    def address(self) -> tuple[str, int]:
        """Of the monitor's HTTP server."""
        host, port = self.fleet.services["monitor"].endpoints["http"].removeprefix("http://").strip("/").split(":")
        return host, int(port)

    @contextlib.contextmanager
    def socket(self, kind: int, setting: str, **options: int) -> Iterator[zmq.Socket]:
        """A connected socket of ZeroMQ's that waits for nobody when it closes."""
        socket = zmq.Context.instance().socket(kind)
        socket.linger, socket.sndtimeo = 0, 1000
        for name, value in options.items():
            setattr(socket, name, value)
        socket.connect(self.endpoint(setting))
        try:
            yield socket
        finally:
            socket.close()


@dataclasses.dataclass(frozen=True)
class Attack:
    """`run` sends until the ground's deadline or a count of its own, whichever comes first, and returns how much it sent.

    `target`: the process that suffers most. `peak_megabytes`, `after_megabytes`: growth of any process that is allowed,
    since it was first looked at.
    """

    name: str
    target: str
    run: Callable[[Ground], int]
    # Room for what is on its way: a message of 32 MiB as received and decoded, once or twice at a time.
    peak_megabytes: int = 400
    # What malloc keeps for later; a second attack of the kind finds it and needs no more.
    after_megabytes: int = 100
