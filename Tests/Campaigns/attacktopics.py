"""Attacks on topics: publications and subscriptions; and bytes that are no ZMTP, or no whole message."""

from __future__ import annotations

import contextlib
import socket as sockets
import time

import attackcalls
import mutation
import samples
import zmq
from attack import VICTIM, Attack, Ground

SUBSCRIBERS = {"ingest": "ingest.trials", "monitor": "monitor.telemetry"}
PUBLISHERS = {
    "ingest": "ingest.publications", "monitor": "monitor.publications", "rollout": "rollout.publications",
    "training": "training.publications",
}  # fmt: skip
EMPTY = {"ingest": "ingest.rpc", VICTIM: "robot.rpc"}
_SUBSCRIPTIONS = 300_000
# What an idle machine needs for them; a busy one takes as many as it can.
_SUBSCRIBING_SECONDS = 10.0
# Parts of a message of which more is to come: a frame of 1 MiB, and empty ones, each 2 bytes here and 64 or more in libzmq.
_MEGABYTE = b"\x03" + (1 << 20).to_bytes(8, "big") + bytes(1 << 20)
_EMPTY = b"\x01\x00" * 10_000
# A whole message.
_MANY = b"\x01\x00" * 99_999 + b"\x00\x00"


def attacks() -> list[Attack]:
    return [
        *[Attack(f"mutated publications, {name}", name, _publications(key)) for name, key in SUBSCRIBERS.items()],
        Attack("event of 2 million empty steps by stream", "ingest", _bomb),
        *[Attack(f"mutated subscriptions, {name}", name, _upstream(key)) for name, key in PUBLISHERS.items()],
        *[Attack(f"300,000 subscriptions, {name}", name, _subscriptions(key)) for name, key in PUBLISHERS.items()],
        Attack("subscribers that never read", "ingest", _never_read),
        Attack("bytes that are no ZMTP, every socket", "ingest", _greetings),
        Attack("messages that never end", "ingest", _endless("ingest.rpc", _MEGABYTE)),
        *[Attack(f"endless empty frames, {name}", name, _endless(key, _EMPTY)) for name, key in EMPTY.items()],
        *[Attack(f"100,000 empty frames a message, {name}", name, _endless(key, _MANY)) for name, key in EMPTY.items()],
    ]


def _publications(setting: str):
    def run(ground: Ground) -> int:
        """A robot's messages with something wrong in topic, envelope or message."""
        chance, sent = ground.chance, 0
        robot = "robot-hostile"
        if setting == "ingest.trials":
            image = chance.randbytes(48 * 48 * 3)
            events = samples.trial(robot, "h", 4, image, 48)
            valid = [samples.published(f"trials/{robot}", robot, event) for event in events]
        else:
            valid = [samples.published(f"telemetry/{robot}", robot, samples.telemetry(robot))]
        with ground.socket(zmq.PUB, setting, sndhwm=1000) as socket:
            _settle()
            while ground.goes_on:
                socket.send_multipart(mutation.frames_of(chance.choice(valid), chance))
                sent += 1
                # PUB drops what a slow subscriber does not take: an attack that is dropped is none.
                if sent % 50 == 0:
                    time.sleep(0.002)
        return sent

    return run


def _bomb(ground: Ground) -> int:
    """4 MB that decode to 2 million steps, published by a robot: the largest that there may be."""
    event, sent = attackcalls.empty_steps(2_000_000), 0
    head = samples.published("trials/robot-hostile", "robot-hostile", samples.telemetry("x"))[:2]
    with ground.socket(zmq.PUB, "ingest.trials") as socket:
        _settle()
        for _ in range(3):
            socket.send_multipart([*head, event])
            sent += 1
            time.sleep(0.5)
        while ground.goes_on:
            time.sleep(0.05)
    return sent


def _upstream(setting: str):
    def run(ground: Ground) -> int:
        """What a subscriber may send to a publisher: subscriptions, and anything else."""
        chance, sent = ground.chance, 0
        valid = [b"\x01acks/", b"\x01", b"\x00acks/", b"\x02", b"\x01alerts/", b"\x01releases/" + b"x" * 300]
        while ground.goes_on:
            with ground.socket(zmq.XSUB, setting, rcvhwm=100) as socket:
                for _ in range(300):
                    message = [chance.choice(valid), *([b"x"] if chance.random() < 0.1 else [])]
                    with contextlib.suppress(zmq.ZMQError):
                        socket.send_multipart(mutation.frames_of(message, chance), zmq.NOBLOCK)
                        sent += 1
                time.sleep(0.02)
        return sent

    return run


def _subscriptions(setting: str):
    def run(ground: Ground) -> int:
        """Subscriptions of 250 bytes without end, as many as are taken in some seconds."""
        sent, end = 0, max(ground.deadline, time.monotonic() + _SUBSCRIBING_SECONDS)
        with ground.socket(zmq.XSUB, setting) as socket:
            filler = b"x" * 235
            for number in range(_SUBSCRIPTIONS):
                if time.monotonic() > end or not _subscribe(socket, b"\x01acks/%09d" % number + filler):
                    break
                sent += 1
            while ground.goes_on:
                time.sleep(0.05)
        return sent

    return run


def _subscribe(socket: zmq.Socket, message: bytes) -> bool:
    try:
        socket.send(message)
        return True
    except zmq.ZMQError:
        return False


def _never_read(ground: Ground) -> int:
    """Ten peers ask for everything and read nothing, while refused events make ingest publish as fast as it can."""
    sent = 0
    event = samples.trial("robot-hostile", "h", 1, b"", 48)[0]
    event.number = 5  # No header may be event 5: ingest refuses it, and says so.
    frames = samples.published("trials/robot-hostile", "robot-hostile", event)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            deaf = stack.enter_context(ground.socket(zmq.SUB, "ingest.publications", rcvhwm=1, rcvbuf=4096))
            deaf.subscribe(b"")
        socket = stack.enter_context(ground.socket(zmq.PUB, "ingest.trials", sndhwm=1000))
        _settle()
        while ground.goes_on:
            socket.send_multipart(frames)
            sent += 1
            if sent % 50 == 0:
                time.sleep(0.002)
    return sent


def _greetings(ground: Ground) -> int:
    """Connections that say nothing, garbage, or half a greeting, on every bound socket."""
    chance, sent, held = ground.chance, 0, []
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31)
    names = [*attackcalls.ROUTERS.values(), *SUBSCRIBERS.values(), *PUBLISHERS.values()]
    paths = [ground.endpoint(name).removeprefix("ipc://") for name in names]
    while ground.goes_on:
        peer = sockets.socket(sockets.AF_UNIX)
        with contextlib.suppress(OSError):
            peer.settimeout(1)
            peer.connect(chance.choice(paths))
            half, more = greeting[: chance.randrange(65)], greeting + chance.randbytes(300)
            data = chance.choice((b"", chance.randbytes(64), half, more))
            # A frame that says how long it is, and lies.
            peer.sendall(data + chance.choice((b"", b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x04\xff")))
            sent += 1
        held.append(peer)
        if len(held) > 200:
            for old in held[:100]:
                old.close()
            del held[:100]
        time.sleep(0.001)
    for peer in held:
        peer.close()
    return sent


def _endless(key: str, frames: bytes):
    def run(ground: Ground) -> int:
        """Frames of a message that never ends, again once the connection is lost."""
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
        sent = 0
        while ground.goes_on:
            with sockets.socket(sockets.AF_UNIX) as peer, contextlib.suppress(OSError):
                peer.settimeout(1)
                peer.connect(ground.endpoint(key).removeprefix("ipc://"))
                peer.sendall(greeting + b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER")
                # What comes before the other side is ready is refused.
                while b"READY" not in peer.recv(4096):
                    pass
                peer.sendall(b"\x01\x02\x08\x02")
                while ground.goes_on:
                    peer.sendall(frames)
                    sent += 1
        return sent

    return run


def _settle() -> None:
    """Until a publication would find its subscriber: PUB drops what it sends before."""
    time.sleep(0.2)
