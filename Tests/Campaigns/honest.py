"""An honest client of every service, in a process of its own, so that an attack's work does not slow its measurements."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import multiprocessing
import signal
import threading
import time

from messages import Channel, RpcError
from programs import CampaignError

# Between two questions to one service.
_PAUSE_SECONDS = 0.05
# An answer that takes longer has not come.
ANSWER_SECONDS = 5.0
# Between this process and the honest one.
_OWN_ANSWER_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Sample:
    """One question: to whom, when it was asked, how long the answer took, and why there was none ("" where there was)."""

    target: str
    asked: float
    seconds: float
    error: str


class HonestClient:
    """Asks every target again and again until `stop`."""

    def __init__(self, calls: dict[str, tuple[str, str]], http_address: tuple[str, int]):
        """`calls`: by name, endpoint and full method of a call whose request is empty."""
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, calls, http_address), daemon=True)
        self._process.start()

    def samples(self) -> list[Sample]:
        """All since the last time, those that wait for an answer excluded. Raises CampaignError."""
        self._here.send("samples")
        if not self._here.poll(_OWN_ANSWER_SECONDS):
            raise CampaignError(f"the honest client said nothing for {_OWN_ANSWER_SECONDS:g} s: is the machine overloaded?")
        return self._here.recv()

    def stop(self) -> None:
        self._process.kill()
        self._process.join(10)


def _work(pipe, calls: dict[str, tuple[str, str]], http_address: tuple[str, int]) -> None:
    # Ctrl-C is for the campaign, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found, lock = [], threading.Lock()

    def keep(name: str, ask) -> None:
        while True:
            asked, error = time.monotonic(), ""
            try:
                ask()
            except (RpcError, OSError, http.client.HTTPException) as problem:
                error = str(problem) or type(problem).__name__
            with lock:
                found.append(Sample(name, asked, time.monotonic() - asked, error))
            time.sleep(_PAUSE_SECONDS)

    for name, (endpoint, method) in calls.items():
        threading.Thread(target=lambda n=name, e=endpoint, m=method: keep(n, _caller(e, m)), daemon=True).start()
    threading.Thread(target=lambda: keep("http", lambda: _page(http_address)), daemon=True).start()
    # Ends with the campaign, however that ends.
    with contextlib.suppress(EOFError, OSError):
        while pipe.recv():
            with lock:
                told, found[:] = list(found), []
            pipe.send(told)


def _caller(endpoint: str, method: str):
    # One connection for all questions, as a service's client has; a channel belongs to its thread.
    channel = Channel(endpoint)
    return lambda: channel.unary(method, b"", timeout=ANSWER_SECONDS)


def _page(address: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
        if status != 200:
            raise OSError(f"/healthz answered {status}")
    finally:
        connection.close()
