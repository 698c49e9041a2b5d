"""Official protobuf as a peer: makes random messages of every type, and compares what came back.

schema_peer.py generate PROTO_FOLDER SEED COUNT OUT    COUNT random messages of each type to OUT
schema_peer.py compare PROTO_FOLDER SENT RETURNED      equal, message by message, else exit status 1

Files hold records: length and bytes of the type's name, length and bytes of the message; lengths are 4 bytes, little-endian.
"""

import pathlib
import random
import struct
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor as F


def load(folder):
    """Every message class of the protos, by full name; map entries left out."""
    protos = sorted(str(p.relative_to(folder)) for p in pathlib.Path(folder).rglob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", f"-I{folder}", "--include_imports", f"-o{out.name}", *protos], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    classes = {}

    def add(descriptor):
        if descriptor.GetOptions().map_entry:
            return
        classes[descriptor.full_name] = message_factory.GetMessageClass(descriptor)
        for nested in descriptor.nested_types:
            add(nested)

    for file in files.file:
        for descriptor in pool.FindFileByName(file.name).message_types_by_name.values():
            add(descriptor)
    return classes


INTEGERS = {
    F.CPPTYPE_INT32: (-(2**31), 2**31 - 1), F.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    F.CPPTYPE_UINT32: (0, 2**32 - 1), F.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def scalar(rng, field):
    kind = field.cpp_type
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return rng.choice([low, high, 0, 1, rng.randint(low, high)])
    if kind == F.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == F.CPPTYPE_FLOAT:
        return struct.unpack("f", struct.pack("f", rng.uniform(-1e6, 1e6)))[0]
    if kind == F.CPPTYPE_DOUBLE:
        # No -0.0: protobuf-c takes it for the default, 0, and leaves it out.
        return rng.choice([0.0, 1e308, rng.uniform(-1, 1), float("inf")])
    if kind == F.CPPTYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values] + [77])
    if field.type == F.TYPE_BYTES:
        return rng.randbytes(rng.choice([0, 1, 7, 3000]))
    # No NUL: protobuf-c's strings end there.
    return "".join(rng.choice("aZ09/ äß漢🤖") for _ in range(rng.choice([0, 1, 12, 200])))


def fill(rng, message, depth=0):
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.3:
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            target, key, value = getattr(message, field.name), *field.message_type.fields
            for _ in range(rng.randint(0, 3)):
                if value.message_type:
                    fill(rng, target[scalar(rng, key)], depth + 1)
                else:
                    target[scalar(rng, key)] = scalar(rng, value)
        elif field.is_repeated if hasattr(field, "is_repeated") else field.label == F.LABEL_REPEATED:
            for _ in range(rng.randint(0, 4)):
                if field.message_type:
                    fill(rng, getattr(message, field.name).add(), depth + 1)
                else:
                    getattr(message, field.name).append(scalar(rng, field))
        elif field.message_type:
            getattr(message, field.name).SetInParent()
            fill(rng, getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, scalar(rng, field))
    # Fields from the future: a varint, and length-delimited bytes.
    if depth == 0 and rng.random() < 0.3:
        message.MergeFromString(b"\xf8\xff\x03\x2a" + b"\x82\x80\x04\x03abc")


def records(path):
    data = pathlib.Path(path).read_bytes()
    at = 0
    while at < len(data):
        parts = []
        for _ in range(2):
            (length,) = struct.unpack_from("<I", data, at)
            parts.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        yield parts[0].decode(), parts[1]


def main():
    verb, folder = sys.argv[1:3]
    classes = load(folder)
    if verb == "generate":
        rng = random.Random(int(sys.argv[3]))
        with open(sys.argv[5], "wb") as out:
            for name, cls in sorted(classes.items()):
                for _ in range(int(sys.argv[4])):
                    message = cls()
                    fill(rng, message)
                    for part in (name.encode(), message.SerializeToString()):
                        out.write(struct.pack("<I", len(part)) + part)
        print(f"{len(classes)} types")
        return
    count = 0
    sent, returned = list(records(sys.argv[3])), list(records(sys.argv[4]))
    assert len(sent) == len(returned), (len(sent), len(returned))
    for (name, before), (name2, after) in zip(sent, returned):
        assert name == name2
        a, b = classes[name].FromString(before), classes[name].FromString(after)
        # Deterministic bytes compare unknown fields and NaN too.
        assert a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True), (name, a, b)
        count += 1
    print(f"{count} equal")


main()
