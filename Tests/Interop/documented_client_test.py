"""A client written from proto/BUS.md and the protos alone. Usage: documented_client_test.py SERVER PUBLISHER

Uses none of deploy/robots: what protoc generates, and pyzmq. SERVER is the echo service of Tests/BusTests, PUBLISHER a
socket that publishes TrialAcknowledgement on acks/r1 and acks/r10.
"""

import importlib
import pathlib
import subprocess
import sys
import tempfile
import time

import grpc  # grpcio must load beside what is generated from our protos.
import zmq

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
INITIAL, OVERHEAD, WINDOW = 262144, 64, 4 << 20
# What grpcio-health-checking brings along: the same symbols under its own file name.
STANDARD_HEALTH = """syntax = "proto3"; package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { enum ServingStatus { UNKNOWN = 0; SERVING = 1; } ServingStatus status = 1; }
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
"""


def generate(folder):
    """Generates every proto and the standard health service into a folder, and loads them all."""
    standard = folder / "standard" / "grpc_health" / "v1"
    standard.mkdir(parents=True)
    (standard / "health.proto").write_text(STANDARD_HEALTH)
    ours = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    for root, protos in ((PROTO, ours), (folder / "standard", ["grpc_health/v1/health.proto"])):
        subprocess.run(["protoc", f"-I{root}", f"--python_out={folder}", *protos], check=True)
    sys.path.insert(0, str(folder))
    names = [name[: -len(".proto")].replace("/", ".") + "_pb2" for name in [*ours, "grpc_health/v1/health.proto"]]
    return {name.split(".")[-1 if "grpc" not in name else 0]: importlib.import_module(name) for name in names}


class Client:
    """A DEALER and its calls, as BUS.md says."""

    def __init__(self, endpoint, frame):
        self.frame, self.ids = frame, 0
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.immediate, self.socket.linger = 1, 0
        self.socket.connect(endpoint)

    def send(self, kind, *messages, **header):
        self.socket.send_multipart(
            [self.frame(kind=kind, has_message=bool(messages), **header).SerializeToString(), *messages])

    def call(self, method, messages, opening_credit, on_message=None):
        """Makes a call of any kind. Returns messages, status code and metadata."""
        self.ids += 1
        me, given = self.ids, INITIAL + opening_credit
        credit, consumed, sent, heard, metadata = INITIAL, 0, 0, [], {}
        self.send(self.frame.KIND_OPEN, call_id=me, method=method, credit=opening_credit)
        closed = False
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            while sent < len(messages) and credit > 0:
                self.send(self.frame.KIND_DATA, messages[sent], call_id=me)
                credit -= len(messages[sent]) + OVERHEAD
                sent += 1
            if sent == len(messages) and not closed:
                self.send(self.frame.KIND_DATA, call_id=me, half_close=True)
                closed = True
            if not self.socket.poll(100):
                continue
            header, *parts = self.socket.recv_multipart()
            header = self.frame.FromString(header)
            if header.kind == self.frame.KIND_PING or header.call_id != me:
                continue
            credit += header.credit
            assert header.has_message == bool(parts)
            if header.has_metadata:
                metadata = {entry.key: entry.text for entry in header.metadata}
            for part in parts:
                heard.append(part)
                consumed += len(part) + OVERHEAD
            if header.kind == self.frame.KIND_STATUS:
                return heard, header.status_code, metadata
            if consumed >= min(given // 4, 1 << 20):
                self.send(self.frame.KIND_CREDIT, call_id=me, credit=consumed)
                consumed = 0
        raise AssertionError(f"{method} stalled after {sum(map(len, heard))} bytes in, {sent} messages out")


def main(server, publisher):
    with tempfile.TemporaryDirectory() as folder:
        modules = generate(pathlib.Path(folder))
    frame, health = modules["bus_pb2"].CallFrame, modules["health_pb2"]
    assert grpc.StatusCode.OK.value[0] == 0
    assert modules["grpc_health"].DESCRIPTOR.package == "grpc.health.v1"
    checks = 1

    client = Client(server, frame)
    large = [bytes([number]) * 100_000 for number in range(60)]
    for opening in (0, WINDOW - INITIAL):  # Without and with initial credit.
        # Unary, client streaming, server streaming and bidirectional: 6 MB and 4 MiB are beyond a window.
        assert client.call("test.Echo/unary", [b"one"], opening) == ([b"one"], 0, {"seen": "unary"})
        heard, code, _ = client.call("test.Echo/join", large, opening)
        assert code == 0 and heard == [b"".join(large)]
        heard, code, _ = client.call("test.Echo/flood", [bytes([5])], opening)
        assert code == 0 and sum(map(len, heard)) == 5 << 20
        heard, code, _ = client.call("test.Echo/echo", large, opening)
        assert code == 0 and heard == large
        checks += 4

    # REQ, with half_close and without; and what is none of the bus.
    request = zmq.Context.instance().socket(zmq.REQ)
    request.linger = 0
    request.connect(server)

    def ask(*frames):
        request.send_multipart(frames)
        assert request.poll(120_000), "a REQ socket got no answer"
        header, *messages = request.recv_multipart()
        return frame.FromString(header), messages

    def opening(method, **fields):
        return frame(kind=frame.KIND_OPEN, call_id=1, method=method, has_message=True, **fields).SerializeToString()

    for fields in ({"half_close": True}, {}):
        header, messages = ask(opening("test.Echo/unary", **fields), b"hello")
        assert header.kind == frame.KIND_STATUS and header.status_code == 0 and messages == [b"hello"]
    assert ask(b"nonsense")[0].status_code == 3
    assert ask(frame(kind=frame.KIND_OPEN, call_id=1, method="test.Echo/unary").SerializeToString())[0].status_code == 3
    checks += 1

    # Health of the server and of a service by its name; the standard's messages are ours on the wire.
    for messages in (health, modules["grpc_health"]):
        for name in ("", "test.Echo", "grpc.health.v1.Health"):
            query = messages.HealthCheckRequest(service=name).SerializeToString()
            header, answer = ask(opening("grpc.health.v1.Health/Check"), query)
            assert header.status_code == 0, header
            assert messages.HealthCheckResponse.FromString(answer[0]).status == 1
    query = health.HealthCheckRequest(service="no.Such").SerializeToString()
    assert ask(opening("grpc.health.v1.Health/Check"), query)[0].status_code == 5
    checks += 1

    # A subscription by parts: acks/r1 is not acks/r10.
    subscriber = zmq.Context.instance().socket(zmq.SUB)
    subscriber.linger = 0
    subscriber.connect(publisher)
    subscriber.subscribe(b"acks/r1")
    last = 0
    for _ in range(20):
        assert subscriber.poll(120_000), "nothing was published"
        topic, envelope, message = subscriber.recv_multipart()
        if topic != b"acks/r1":
            continue
        envelope = modules["bus_pb2"].TopicEnvelope.FromString(envelope)
        assert envelope.publisher == "ingest" and envelope.session != 0
        assert last == 0 or envelope.sequence == last + 1
        last = envelope.sequence
        acknowledgement = modules["ingest_pb2"].TrialAcknowledgement.FromString(message)
        assert (acknowledgement.trial_id, acknowledgement.robot) == ("t1", "r1")
    assert last > 0
    checks += 1

    print(f"{checks} checks passed")


main(*sys.argv[1:])
