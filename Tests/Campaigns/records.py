"""What robots and ingest said about trials, gathered from outside: the promises that a campaign holds them to."""

from __future__ import annotations

import re
import threading

import zmq
from fleet import Fleet
from messages import schema
from triallog import Trial

_FILED = re.compile(r"^\d\d:\d\d:\d\d (\S+): (\S+) synthetic seed \d+ \d+ steps", re.MULTILINE)
_DURABLE = {schema.TRIAL_STATE_STORED, schema.TRIAL_STATE_DUPLICATE, schema.TRIAL_STATE_QUARANTINED}


def filed(fleet: Fleet) -> set[Trial]:
    """Trials of which a control program was told that they are durable in the spool: it logs each after that answer."""
    found: set[Trial] = set()
    for log in (fleet.folder / "logs").glob("*-program.log"):
        found.update(_FILED.findall(log.read_text(errors="replace")))
    return found


class Acknowledgements(threading.Thread):
    """Listens to `acks/` as a robot does; may miss some, and never hears one that was not given."""

    def __init__(self, fleet: Fleet):
        super().__init__(daemon=True)
        self._endpoint, self._ending = fleet.socket("ingest.publications"), threading.Event()
        self._lock, self._durable = threading.Lock(), set()

    def stop(self) -> None:
        self._ending.set()
        self.join(10)

    @property
    def durable(self) -> set[Trial]:
        """Trials that ingest said it will never lose."""
        with self._lock:
            return set(self._durable)

    def run(self) -> None:
        socket = zmq.Context.instance().socket(zmq.SUB)
        socket.linger, socket.reconnect_ivl_max, socket.rcvhwm = 0, 500, 100_000
        socket.subscribe(b"acks/")
        socket.connect(self._endpoint)
        while not self._ending.is_set():
            if not socket.poll(100):
                continue
            _, _, data = socket.recv_multipart()
            word = schema.TrialAcknowledgement.FromString(data)
            if word.state in _DURABLE:
                with self._lock:
                    self._durable.add((word.robot, word.trial_id))
        socket.close()
