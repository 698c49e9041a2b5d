"""The fleet's messages as Python classes, made from `proto/` when a program starts: no generated file to keep current.

    messages = fleetschemas.load("fleetloop/v1/robot.proto")
    messages.WorkOrder(order_id="o1", task="reach-v3")

A machine without `protoc` (a container, a robot) sets FLEETLOOP_DESCRIPTORS to a file that
`protoc --include_imports --descriptor_set_out=FILE` wrote elsewhere.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import types

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTO_ROOT = pathlib.Path(__file__).resolve().parents[2] / "proto"


class SchemaError(RuntimeError):
    """The descriptors could not be made or read; says what to do."""


def load(*files: str, root: pathlib.Path = PROTO_ROOT) -> types.SimpleNamespace:
    """Message classes and enum values of `files` (paths below `root`) and all that they import, by their short names.

    Enum values appear under their own names, e.g. `OUTCOME_SUCCESS`. Raises SchemaError.
    """
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(_descriptors(files, root))
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors.file:
        pool.Add(file)
    classes = message_factory.GetMessageClassesForFiles([file.name for file in descriptors.file], pool)
    names: dict[str, object] = {name.rsplit(".", 1)[-1]: cls for name, cls in classes.items()}
    for file in descriptors.file:
        for enum in file.enum_type:
            names.update({value.name: value.number for value in enum.value})
    return types.SimpleNamespace(**names)


def _descriptors(files: tuple[str, ...], root: pathlib.Path) -> bytes:
    ready = os.environ.get("FLEETLOOP_DESCRIPTORS")
    if ready:
        try:
            return pathlib.Path(ready).read_bytes()
        except OSError as error:
            raise SchemaError(f"cannot read FLEETLOOP_DESCRIPTORS={ready}: {error}") from error
    protoc = shutil.which("protoc")
    if protoc is None:
        raise SchemaError("protoc is missing: run deploy/setup, or set FLEETLOOP_DESCRIPTORS to a descriptor set")
    command = [protoc, f"-I{root}", "--include_imports", "--descriptor_set_out=/dev/stdout", *files]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise SchemaError(f"protoc refused {', '.join(files)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
