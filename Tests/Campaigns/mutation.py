"""Valid bytes made invalid, in the ways that parsers fear most."""

from __future__ import annotations

import random

# Numbers at the edges of what fields and lengths hold, as protobuf writes them.
_VARINTS = [
    b"\x00", b"\x7f", b"\xff\x01", b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x10",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff" * 11,
]  # fmt: skip


def bytes_of(data: bytes, chance: random.Random) -> bytes:
    """One message with one to four things wrong; now and then none."""
    changed = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(7)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at:at] = chance.choice(_VARINTS)
        elif kind == 2:
            changed[at : at + 1] = chance.choice(_VARINTS)
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            changed[at:at] = chance.randbytes(chance.choice((1, 8, 300)))
        elif kind == 5:
            # Length-delimited fields inside each other, deeper than any decoder should follow.
            depth = chance.choice((10, 200, 5_000))
            changed[at:at] = b"\x0b" * depth if chance.random() < 0.5 else _nested(depth)
        else:
            changed[at:at] = bytes(changed[: chance.choice((16, 400))])
    return bytes(changed)


def frames_of(frames: list[bytes], chance: random.Random) -> list[bytes]:
    """A ZeroMQ message with frames changed, left out, doubled, or far too many."""
    changed = list(frames)
    kind = chance.randrange(8)
    if kind == 0 and len(changed) > 1:
        del changed[chance.randrange(len(changed))]
    elif kind == 1:
        changed.insert(chance.randrange(len(changed) + 1), chance.choice((b"", b"\0", chance.randbytes(20))))
    elif kind == 2:
        changed += [changed[-1][:1000]] * chance.choice((1, 63, 64, 65, 500))
    elif kind == 3:
        chance.shuffle(changed)
    else:
        at = chance.randrange(len(changed))
        changed[at] = bytes_of(changed[at], chance)
    return changed


def _nested(depth: int) -> bytes:
    inner = b""
    for _ in range(min(depth, 2_000)):
        length = len(inner)
        prefix = bytearray(b"\x0a")
        while length > 127:
            prefix.append(length & 127 | 128)
            length >>= 7
        prefix.append(length)
        inner = bytes(prefix) + inner
    return inner
