"""Attacks on the monitor's HTTP server."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket as sockets
import time

import mutation
from attack import Attack, Ground

_SLOW_CONNECTIONS = 2_000
_HEADER_BYTES = 300_000
_ENDLESS_CONNECTIONS = 50
# Longer than any server should wait for the end of a request's headers.
_PATIENCE_SECONDS = 25.0


def attacks() -> list[Attack]:
    return [
        Attack("2,000 slow connections", "monitor", _slow),
        Attack("connections that never end their request", "monitor", _endless),
        Attack("4 requests with 300 kB of headers", "monitor", _headers),
        Attack("requests that are none", "monitor", _garbage),
    ]


def _slow(ground: Ground) -> int:
    """Connections that send a byte now and then and never end their request; one that is closed is opened again."""
    opened, held = 0, []
    text = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    try:
        while ground.goes_on:
            while len(held) < _SLOW_CONNECTIONS and ground.goes_on:
                peer = _connect(ground)
                if peer is None:
                    break
                held.append(peer)
                opened += 1
            for peer in ground.chance.sample(held, min(200, len(held))):
                try:
                    peer.send(ground.chance.choice((b"a", text)))
                except OSError:
                    peer.close()
                    held.remove(peer)
            time.sleep(0.05)
    finally:
        for peer in held:
            peer.close()
    return opened


def _endless(ground: Ground) -> int:
    """Connections that go on sending a request's headers: each must be closed by the server in time."""
    peers = [peer for peer in (_connect(ground) for _ in range(_ENDLESS_CONNECTIONS)) if peer is not None]
    opened, end = len(peers), time.monotonic() + _PATIENCE_SECONDS
    text = itertools.chain(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", itertools.repeat(ord("a")))
    for byte in text:
        for peer in list(peers):
            try:
                peer.send(bytes([byte]))
                if select.select([peer], [], [], 0)[0] and not peer.recv(65_536):
                    raise ConnectionResetError
            except OSError:
                peer.close()
                peers.remove(peer)
        if not peers or time.monotonic() > end:
            break
        time.sleep(0.2)
    if peers:
        ground.broken.append(f"{len(peers)} of {opened} connections are open after {_PATIENCE_SECONDS:g} s of headers")
    for peer in peers:
        peer.close()
    return opened


def _headers(ground: Ground) -> int:
    """What froze the monitor once: headers so long that reading them takes longer than anybody waits."""
    data = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    line = b"X-%d: " + b"a" * 80 + b"\r\n"
    number = 0
    while len(data) < _HEADER_BYTES:
        number += 1
        data += line % number
    peers = []
    for text in (data, data, b"GET /" + b"a" * _HEADER_BYTES, b"GET / HTTP/1.1\r\nX: " + b"b" * _HEADER_BYTES):
        peer = _connect(ground)
        if peer is not None:
            peers.append(peer)
            with contextlib.suppress(OSError):
                peer.settimeout(2)
                peer.sendall(text + b"\r\n\r\n")
    while ground.goes_on:
        time.sleep(0.05)
    for peer in peers:
        peer.close()
    return len(peers)


def _garbage(ground: Ground) -> int:
    """Valid requests with something wrong, bodies that lie about their length, and no HTTP at all."""
    chance, sent = ground.chance, 0
    host = b"Host: %s:%d\r\n" % (ground.address()[0].encode(), ground.address()[1])
    valid = [
        b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /api/status?token=x HTTP/1.1\r\n" + host + b"Connection: keep-alive\r\n\r\n",
        b"HEAD / HTTP/1.0\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\n" + host + b"Content-Length: 18446744073709551615\r\n\r\nabc",
        b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\n" + host + b"Range: bytes=0-\r\nUpgrade: websocket\r\n\r\n",
    ]
    while ground.goes_on:
        peer = _connect(ground)
        if peer is None:
            time.sleep(0.05)
            continue
        with contextlib.suppress(OSError):
            for _ in range(chance.choice((1, 1, 5))):
                peer.send(mutation.bytes_of(chance.choice(valid), chance))
                sent += 1
            if select.select([peer], [], [], chance.choice((0, 0.02)))[0]:
                peer.recv(65_536)
        peer.close()
    return sent


def _connect(ground: Ground) -> sockets.socket | None:
    peer = sockets.socket()
    peer.settimeout(0.5)
    try:
        peer.connect(ground.address())
    except OSError:
        peer.close()
        return None
    peer.setblocking(False)
    return peer
