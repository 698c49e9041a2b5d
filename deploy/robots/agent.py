"""The agent as a control program sees it: work to do, and one stream a trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import fleetbus
import fleetschemas

messages = fleetschemas.load("fleetloop/v1/robot.proto")

_SERVICE = "fleetloop.v1.RobotService"
# Beyond what the agent itself needs: its disk may be slow, and inference has a budget of its own.
_ANSWER_SECONDS = 30.0


class AgentError(RuntimeError):
    """The agent cannot be reached, refused, or ended the trial; try again later."""


class Agent:
    """A connection to one agent; use it as a context. `keys`: the agent's key folder; empty where it asks for none."""

    def __init__(self, endpoint: str, keys: str = ""):
        self._endpoint, self._keys = endpoint, keys

    def __enter__(self) -> Agent:
        try:
            self._channel = fleetbus.Channel(self._endpoint, keys=self._keys or None)
        except (OSError, ValueError, KeyError, fleetbus.zmq.ZMQError) as error:
            raise AgentError(f"cannot connect: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def next_work(self, wait_millis: int, tasks: tuple[str, ...] = ()):
        """The next `WorkItem`, or None where there is none in time. `tasks`: what the program can do; empty says nothing.

        Raises AgentError.
        """
        request = messages.NextWorkRequest(wait_millis=wait_millis, tasks=tasks)
        with _explained():
            answer = self._channel.unary(
                f"{_SERVICE}/NextWork", request.SerializeToString(), timeout=wait_millis / 1000 + _ANSWER_SECONDS
            )
        response = messages.NextWorkResponse.FromString(answer)
        return response.item if response.HasField("item") else None

    @contextlib.contextmanager
    def trial(self, start) -> Iterator[Trial]:
        """A started trial. Leaving it without `finish` makes the agent file it as aborted. Raises AgentError."""
        with self._channel.stream(f"{_SERVICE}/Control") as call:
            yield Trial(call, start)
            with _explained():
                # The agent has nothing more to say, and says so.
                call.close_sending()
                call.receive(timeout=_ANSWER_SECONDS)


class Trial:
    """One trial's stream: each request has one answer."""

    def __init__(self, call, start):
        self._call = call
        self.started = self._exchange("started", start=start)

    def observe(self, observe):
        """Sends an `Observe` and returns the `Command`."""
        return self._exchange("command", observe=observe)

    def finish(self, finish):
        """Sends a `FinishTrial` and returns the `TrialFiled`."""
        return self._exchange("filed", finish=finish)

    def _exchange(self, answer: str, **request):
        with _explained():
            self._call.send(messages.ControlRequest(**request).SerializeToString())
            data = self._call.receive(timeout=_ANSWER_SECONDS)
        if data is None:
            raise AgentError("the agent ended the trial")
        response = messages.ControlResponse.FromString(data)
        if response.WhichOneof("response") != answer:
            raise AgentError(f'the agent answered with "{response.WhichOneof("response")}" where "{answer}" was due')
        return getattr(response, answer)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except fleetbus.RpcError as error:
        raise AgentError(str(error)) from error
