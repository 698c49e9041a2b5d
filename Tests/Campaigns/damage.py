"""Damage to the log of a stopped ingest: torn tails, which cost nothing, and flipped bits, which cost one trial each."""

from __future__ import annotations

import os
import pathlib
import random

from triallog import Place, files, is_sealed

# Opcode and length, start and end, size, CRC, the name of no compression, and the records' length: MCAP's chunk.
_CHUNK_HEAD = 1 + 8 + 8 + 8 + 8 + 4 + 4 + 8


def append_torn_write(log: pathlib.Path, places: list[Place], chance: random.Random) -> str:
    """Puts behind the active file's end what a write leaves that a power cut interrupts. Returns what, or ""."""
    names = files(log)
    if not names or is_sealed(names[-1]):
        return ""
    file, kind = names[-1], chance.choice(("chunk", "zeros", "garbage"))
    length = chance.randint(1, 60_000)
    if kind == "zeros":
        tail = bytes(length)
    elif kind == "garbage" or not places:
        kind, tail = "garbage", chance.randbytes(length)
    else:
        # A trial's chunk as it would be written, cut at a random byte.
        place = chance.choice(places)
        chunk = place.file.read_bytes()[place.offset : place.chunk_end]
        tail = chunk[: chance.randrange(1, len(chunk))]
    with file.open("ab") as stream:
        stream.write(tail)
    return f"{kind} of {len(tail)} bytes behind {file.name}"


def cut_tail(log: pathlib.Path, places: list[Place], waiting: set, chance: random.Random) -> str:
    """Cuts the active file at a random byte behind the last trial that its robot need not have any more.

    `waiting`: trials that still stand in a robot's spool; nobody may count on the log for them. Returns what, or "".
    """
    names = files(log)
    if not names or is_sealed(names[-1]):
        return ""
    file = names[-1]
    needed = [place.end for place in places if place.file == file and place.trial not in waiting]
    size = file.stat().st_size
    # A file without any trial begins with records that are written before the first acknowledgement: leave them.
    first = min((place.offset for place in places if place.file == file), default=size)
    start = max(needed, default=first)
    if start >= size:
        return ""
    cut = chance.randint(start, size - 1)
    os.truncate(file, cut)
    return f"{size - cut} bytes cut off {file.name}"


def flip_bit(place: Place, in_records: bool, chance: random.Random) -> str:
    """Flips one bit of a trial's chunk: in its records, which its CRC covers, or in its head before them."""
    records = place.offset + _CHUNK_HEAD
    at = chance.randrange(records, place.chunk_end) if in_records else chance.randrange(place.offset, records)
    with place.file.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ (1 << chance.randrange(8))]))
    return f"{'/'.join(place.trial)}: byte {at} of {place.file.name} ({at - place.offset} behind its chunk's begin)"
