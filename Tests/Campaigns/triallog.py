"""The trial log read by independent means: the official `mcap` package, not the product's own reader."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import struct

from mcap.exceptions import McapError
from mcap.records import Chunk, DataEnd, MessageIndex
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk
from messages import schema

# Robot and trial id.
Trial = tuple[str, str]
_MAGIC = b"\x89MCAP0\r\n"


@dataclasses.dataclass(frozen=True)
class Place:
    """A whole trial in the log: its chunk stands from `offset` to `chunk_end`; `end` is behind the chunk's index."""

    trial: Trial
    file: pathlib.Path
    offset: int
    chunk_end: int
    end: int


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The log's files, oldest first; none but those that the product reads."""
    return sorted(folder.glob("trials-????????.mcap"))


def is_sealed(file: pathlib.Path) -> bool:
    data = file.read_bytes()
    return len(data) > 2 * len(_MAGIC) and data.endswith(_MAGIC)


def read(file: pathlib.Path) -> list[Place]:
    """Every whole and undamaged trial of a file. What is torn or damaged is skipped.

    A file without a footer is read as far as its records go: it is the one that ingest writes to.
    """
    places: list[Place] = []
    # From memory: a damaged length would have a file's reader ask for as many bytes.
    with io.BytesIO(file.read_bytes()) as stream:
        reader = StreamReader(stream, emit_chunks=True)
        trial, offset, chunk_end, before = None, 0, 0, 0
        try:
            for record in reader.records:
                if isinstance(record, Chunk):
                    trial, offset, chunk_end = _trial(record), before, stream.tell()
                elif isinstance(record, MessageIndex) and trial is not None:
                    places.append(Place(trial, file, offset, chunk_end, stream.tell()))
                    trial = None
                elif isinstance(record, DataEnd):
                    break
                before = stream.tell()
        except Exception:
            # Torn here, which the package has many errors for; nothing behind it can be found without an index. Should
            # the error be another, then trials are missing, and the campaign says so.
            pass
    return places


def read_all(folder: pathlib.Path) -> list[Place]:
    return [place for file in files(folder) for place in read(file)]


def _trial(chunk: Chunk) -> Trial | None:
    try:
        messages = breakup_chunk(chunk, validate_crc=True)
    except (CRCValidationError, McapError, ValueError, EOFError, OverflowError, struct.error):
        return None
    event = schema.TrialEvent.FromString(messages[0].data)
    return event.robot, event.trial_id


class LogAudit:
    """Looks at a log again and again, and reads what has changed since."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._read: dict[pathlib.Path, tuple[tuple[int, ...], list[Place]]] = {}

    def look(self) -> list[Place]:
        """All whole trials now. Only while ingest does not write, or for what was acknowledged before."""
        found = {}
        for file in files(self._folder):
            status = file.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            known = self._read.get(file)
            found[file] = known if known and known[0] == state else (state, read(file))
        self._read = found
        return [place for _, places in found.values() for place in places]
