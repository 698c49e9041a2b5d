"""An honest client of every service, in a process of its own, so that an attack's work does not slow its measurements."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import multiprocessing
import signal
import threading
import time

import zmq
from messages import Channel, RpcError, schema
from programs import CampaignError

# Who listens to a topic, and who reads stored trials.
SUBSCRIBER, READER = "subscriber", "reader"
# Between two questions to one service.
_PAUSE_SECONDS = 0.05
# An answer that takes longer has not come.
ANSWER_SECONDS = 5.0
# Between this process and the honest one.
_OWN_ANSWER_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Sample:
    """One question: to whom, when it was asked, how long the answer took, and why there was none ("" where there was).

    Of ``SUBSCRIBER`` one publication: the time is that since it was published.
    """

    target: str
    asked: float
    seconds: float
    error: str


class HonestClient:
    """Asks every target again and again until `stop`."""

    def __init__(
        self, calls: dict[str, tuple[str, str, bytes]], http_address: tuple[str, int], topic: tuple[str, str] | None = None
    ):
        """`calls`: by name, endpoint, full method and request of a call. `topic`: endpoint and topic to subscribe to."""
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, calls, http_address, topic), daemon=True)
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


def _work(pipe, calls: dict, http_address: tuple[str, int], topic: tuple[str, str] | None) -> None:
    # Ctrl-C is for the campaign, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found, lock = [], threading.Lock()

    def keep(name: str, ask) -> None:
        while True:
            asked, error, seconds = time.monotonic(), "", None
            try:
                seconds = ask()
            except (RpcError, OSError, http.client.HTTPException) as problem:
                error = str(problem) or type(problem).__name__
            with lock:
                found.append(Sample(name, asked, time.monotonic() - asked if seconds is None else seconds, error))
            # What is published waits for nobody's pause.
            time.sleep(0 if name == SUBSCRIBER else _PAUSE_SECONDS)

    for name, call in calls.items():
        threading.Thread(target=lambda n=name, c=call: keep(n, _caller(*c)), daemon=True).start()
    if topic:
        threading.Thread(target=lambda: keep(SUBSCRIBER, _subscriber(*topic)), daemon=True).start()
    threading.Thread(target=lambda: keep("http", lambda: _page(http_address)), daemon=True).start()
    # Ends with the campaign, however that ends.
    with contextlib.suppress(EOFError, OSError):
        while pipe.recv():
            with lock:
                told, found[:] = list(found), []
            pipe.send(told)


def _caller(endpoint: str, method: str, request: bytes):
    # One connection for all questions, as a service's client has; a channel belongs to its thread.
    channel = Channel(endpoint)

    def ask() -> None:
        with channel.stream(method, timeout=ANSWER_SECONDS) as call:
            call.send(request, last=True)
            if not list(call):
                raise OSError("the answer is empty")

    return ask


def _subscriber(endpoint: str, topic: str):
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.subscribe(topic.encode())
    socket.connect(endpoint)

    def hear() -> float:
        if not socket.poll(ANSWER_SECONDS * 1000):
            raise OSError(f"nothing was published for {ANSWER_SECONDS:g} s")
        envelope = schema.TopicEnvelope.FromString(socket.recv_multipart()[1])
        return time.time() - envelope.unix_nanos / 1e9

    return hear


def _page(address: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
        if status != 200:
            raise OSError(f"/healthz answered {status}")
    finally:
        connection.close()
