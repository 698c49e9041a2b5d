"""Attacks on ROUTER sockets: frames, headers, credit and calls that never end."""

from __future__ import annotations

import contextlib
import time

import mutation
import samples
import zmq
from attack import VICTIM, Attack, Ground
from messages import Channel, schema

ROUTERS = {
    "ingest": "ingest.rpc", "training": "training.rpc", "inference": "inference.rpc", "monitor": "monitor.rpc",
    "rollout": "rollout.rpc", VICTIM: "robot.rpc",
}  # fmt: skip
_HUGE_CREDIT = (2**62, 2**63, 2**64 - 1)
_OPEN_CALLS = 1_100
_STOPPERS = 200
_READERS = 50
# What is stored for readers who never read: 8 trials of 7.5 MB.
_BULK_TRIALS, _BULK_STEPS, _BULK_SIZE = 8, 50, 224


def attacks() -> list[Attack]:
    mutated = [Attack(f"mutated frames, {name}", name, _frames(setting)) for name, setting in ROUTERS.items()]
    headers = [Attack(f"headers of 10 MB, {name}", name, _headers(setting)) for name, setting in ROUTERS.items()]
    return [
        *mutated,
        *headers,
        Attack("event of 15 million empty steps by upload", "ingest", _bomb_by_upload),
        Attack("30 MB of numbers to Act", "inference", _bomb_of_numbers),
        Attack("50 readers with huge credit that never read", "ingest", _readers),
        Attack("1,100 open NextWork calls", VICTIM, _open_calls("robot.rpc", "RobotService/NextWork", 60_000)),
        Attack("1,100 stops that are begun and never finished", VICTIM, _open_calls("robot.rpc", "RobotService/Stop")),
        Attack("stops that are begun and never finished, by 200 peers", VICTIM, _half_stops),
        Attack("1,100 open uploads", "ingest", _open_calls("ingest.rpc", "IngestService/Upload")),
        Attack("1,100 open WatchAlerts", "monitor", _open_calls("monitor.rpc", "MonitorService/WatchAlerts", 0)),
    ]


def _frames(setting: str):
    def run(ground: Ground) -> int:
        """A valid call, its frames or bytes changed; also frames of calls that nobody opened."""
        chance, sent = ground.chance, 0
        valid = samples.requests(VICTIM)[setting]
        while ground.goes_on:
            with ground.socket(chance.choice((zmq.DEALER, zmq.DEALER, zmq.REQ)), setting) as socket:
                if socket.type == zmq.REQ:
                    # It sends on without waiting for answers.
                    socket.setsockopt(zmq.REQ_RELAXED, 1)
                for call in range(1, 400):
                    method, request = chance.choice(valid)
                    frames = samples.opening(
                        call, f"fleetloop.v1.{method}", request.SerializeToString(),
                        half_close=chance.random() < 0.8, credit=chance.choice((0, 1 << 20, *_HUGE_CREDIT)),
                        timeout_nanos=chance.choice((0, 1, 50_000_000, 2**64 - 1)),
                    )  # fmt: skip
                    if chance.random() < 0.3:
                        stray = schema.CallFrame(kind=chance.randrange(8), call_id=chance.choice((call, 0, 2**64 - 1)))
                        stray.credit, stray.has_message = chance.choice(_HUGE_CREDIT), True
                        frames[0] = stray.SerializeToString()
                    if not _send(socket, mutation.frames_of(frames, chance)):
                        break
                    sent += 1
                    if not ground.goes_on:
                        break
        return sent

    return run


def _headers(setting: str):
    def run(ground: Ground) -> int:
        """Metadata of 10 MB: one value, and two million entries of 5 bytes."""
        sent = 0
        head = samples.opening(1, "grpc.health.v1.Health/Check", b"")
        one = samples.opening(1, "grpc.health.v1.Health/Check", b"", metadata=[{"key": "k", "text": "x" * 10_000_000}])
        many = [head[0] + b"\x2a\x03\x0a\x01k" * 2_000_000, *head[1:]]
        with ground.socket(zmq.DEALER, setting) as socket:
            for call in range(1, 41):
                if not ground.goes_on:
                    break
                sent += _send(socket, one if call % 2 else many)
        return sent

    return run


def _bomb_by_upload(ground: Ground) -> int:
    """30 MB that decode to 15 million steps, as a call's message: the largest that there may be."""
    event, sent = empty_steps(15_000_000), 0
    with ground.socket(zmq.DEALER, "ingest.rpc") as socket:
        for call in range(1, 6):
            if not ground.goes_on:
                break
            sent += _send(socket, samples.opening(call, "fleetloop.v1.IngestService/Upload", event))
            socket.poll(5000)
    return sent


def empty_steps(count: int) -> bytes:
    """A TrialEvent whose steps are so many empty messages: 2 bytes each on the wire, a hundred or more in memory."""
    run = b"\x0a\x00" * count
    head = schema.TrialEvent(robot="robot-hostile", trial_id="bomb", number=1).SerializeToString()
    length, prefix = len(run), bytearray(b"\x2a")
    while length > 127:
        prefix.append(length & 127 | 128)
        length >>= 7
    prefix.append(length)
    return head + bytes(prefix) + run


def _bomb_of_numbers(ground: Ground) -> int:
    """7 million joint angles in one observation."""
    request = schema.ActRequest(observation=schema.Observation(robot=VICTIM, joint_angles=[0.5] * 7_000_000))
    data, sent = request.SerializeToString(), 0
    with ground.socket(zmq.DEALER, "inference.rpc") as socket:
        for call in range(1, 6):
            if not ground.goes_on:
                break
            sent += _send(socket, samples.opening(call, "fleetloop.v1.InferenceService/Predict", data))
            socket.poll(5000)
    return sent


def store(ground: Ground, robot: str, trials: int, steps: int, size: int) -> bytes:
    """Stores trials of a robot. Returns the request that reads them all."""
    channel = Channel(ground.endpoint("ingest.rpc"))
    for number in range(trials):
        image = ground.chance.randbytes(size * size * 3)
        events = samples.trial(robot, f"{robot}-{number}", steps, image, size)
        with channel.stream("fleetloop.v1.IngestService/Upload", timeout=60) as call:
            for event in events:
                call.send(event.SerializeToString())
            call.close_sending()
            call.receive()
    request = schema.CreateSnapshotRequest(query=schema.TrialQuery(robots=[robot], include_quarantined=True))
    data = channel.unary("fleetloop.v1.IngestService/CreateSnapshot", request.SerializeToString(), timeout=60)
    channel.close()
    snapshot = schema.DatasetSnapshot.FromString(data).snapshot_id
    return schema.ReadTrialsRequest(snapshot_id=snapshot).SerializeToString()


def _readers(ground: Ground) -> int:
    """Asks for 60 MB fifty times with endless credit, and reads nothing."""
    request, sent = store(ground, "robot-bulk", _BULK_TRIALS, _BULK_STEPS, _BULK_SIZE), 0
    with ground.socket(zmq.DEALER, "ingest.rpc", rcvhwm=1) as socket:
        for call in range(1, _READERS + 1):
            credit = ground.chance.choice(_HUGE_CREDIT)
            sent += _send(socket, samples.opening(call, "fleetloop.v1.IngestService/ReadTrials", request, credit=credit))
        # Ingest reads and checks 3 GB in this time, if it lets itself be asked to.
        _wait(ground, at_least=8)
    return sent


def _open_calls(setting: str, method: str, wait_millis: int | None = None):
    def run(ground: Ground) -> int:
        """As many calls as there is room for, left open by one peer."""
        sent = 0
        message = None if wait_millis is None else schema.NextWorkRequest(wait_millis=wait_millis).SerializeToString()
        with ground.socket(zmq.DEALER, setting) as socket:
            for call in range(1, _OPEN_CALLS + 1):
                frames = samples.opening(call, f"fleetloop.v1.{method}", message, half_close=message is not None)
                sent += _send(socket, frames)
            _wait(ground, at_least=3)
        return sent

    return run


def _half_stops(ground: Ground) -> int:
    """Five stops each, begun and never finished, by as many peers as would fill every place that stops have."""
    sent = 0
    with contextlib.ExitStack() as stack:
        for _ in range(_STOPPERS):
            socket = stack.enter_context(ground.socket(zmq.DEALER, "robot.rpc"))
            for call in range(1, 6):
                frames = samples.opening(call, "fleetloop.v1.RobotService/Stop", None, half_close=False)
                sent += _send(socket, frames)
        _wait(ground, at_least=3)
    return sent


def _send(socket: zmq.Socket, frames: list[bytes]) -> bool:
    """False where the peer takes no more."""
    try:
        socket.send_multipart(frames)
        return True
    except zmq.ZMQError:
        return False


def _wait(ground: Ground, at_least: float) -> None:
    """Holds what is open until the time is over."""
    time.sleep(max(at_least, ground.deadline - time.monotonic()))
