"""gRPC calls over ZeroMQ, from Python: the client side of proto/BUS.md. Messages are bytes of any schema.

    channel = Channel("tcp://127.0.0.1:7451")
    reply = channel.unary("fleetloop.v1.RobotService/GetStatus", b"", timeout=5)
    with channel.stream("fleetloop.v1.RobotService/Control") as call:
        call.send(request)
        response = call.receive(timeout=1)      # None after the last; iterating works too"""
import collections, itertools, json, math, pathlib, time  # noqa: E401
import fleetschemas
import zmq
from zmq.utils.monitor import recv_monitor_message

Frame = fleetschemas.load("fleetloop/v1/bus.proto").CallFrame
INITIAL_CREDIT, WINDOW, OVERHEAD, CONNECT_SECONDS = 256 << 10, 4 << 20, 64, 5.0
CODES = """OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
    RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS
    UNAUTHENTICATED""".split()

class RpcError(Exception):
    """A call that did not end OK. `code` is gRPC's name, e.g. "UNAVAILABLE"; `metadata` came with the status."""
    def __init__(self, code, message, metadata=()):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.metadata = code, message, metadata

class Channel:
    """A connection to one server; connects in the background, and again after a loss. `keys`: folder whose `own.json`
    is this side's pair. `server_key`: the server's, Z85; left out, it has the same pair, as a robot's agent has.
    A channel and its calls belong to one thread, as ZeroMQ's sockets do: make one channel a thread."""
    def __init__(self, endpoint, server_key=None, keys=None):
        self.endpoint, self.calls, self.ids = endpoint, {}, itertools.count(1)
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger, self.socket.heartbeat_ivl, self.socket.reconnect_ivl_max = 1000, 2000, 2000
        self.socket.immediate = 1  # No call waits in a queue for a server that may never come.
        if keys:
            own = json.loads(pathlib.Path(keys, "own.json").read_text())
            self.socket.curve_serverkey = (server_key or own["publicKey"]).encode()
            self.socket.curve_publickey = own["publicKey"].encode()
            self.socket.curve_secretkey = own["secretKey"].encode()
        self.monitor, self.poller = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED), zmq.Poller()
        list(map(self.poller.register, (self.socket, self.monitor), (zmq.POLLIN, zmq.POLLIN)))
        self.socket.connect(endpoint)

    def unary(self, method, request, timeout=10.0, metadata=()):
        """One request, one response. Raises RpcError."""
        with self.stream(method, timeout, metadata) as call:
            call.send(request, last=True)
            response, *others = list(call) or [None]
        if response is None or others:
            raise RpcError("INTERNAL", f"{method} did not answer with one message")
        return response

    def stream(self, method, timeout=math.inf, metadata=()):
        """A call of any kind. `timeout`: seconds for the whole call; `metadata`: (key, str or bytes) pairs."""
        return Call(self, next(self.ids), method, timeout, metadata)

    def close(self):
        for call in list(self.calls.values()):
            call.cancel()
        self.socket.disable_monitor()
        self.socket.close()

    def pump(self, until):
        """Waits until something arrives or the time comes; hands what arrived to its call."""
        ready = dict(self.poller.poll(max(0, min(3600, until - time.monotonic())) * 1000 + 1))
        while self.socket.poll(0):
            header, *message = self.socket.recv_multipart()
            frame = Frame.FromString(header)
            if frame.call_id in self.calls:  # Else a late reply: its call is over.
                self.calls[frame.call_id].hear(frame, message)
        if self.monitor in ready and recv_monitor_message(self.monitor):
            for call in list(self.calls.values()):
                call.end("UNAVAILABLE", f"the connection to {self.endpoint} was lost")

class Call:
    """A call in flight. `metadata` is the response's once it arrived, `trailers` what came with the status."""
    def __init__(self, channel, number, method, timeout, metadata):
        self.channel, self.id, self.deadline = channel, number, time.monotonic() + timeout
        # Waits for the first message, to travel with it. Its credit comes on top of the initial one.
        pairs = [{"key": key, "text" if isinstance(value, str) else "binary": value} for key, value in metadata]
        self.opening = {"kind": Frame.KIND_OPEN, "method": method, "metadata": pairs, "credit": WINDOW - INITIAL_CREDIT,
                        "timeout_nanos": 0 if timeout == math.inf else max(1, int(timeout * 1e9))}
        self.credit, self.consumed, self.inbox, self.outcome = INITIAL_CREDIT, 0, collections.deque(), None
        self.metadata, self.trailers, channel.calls[number] = [], [], self

    def send(self, message, last=False):
        """Sends a message; waits while the server reads slower than we write. `last`: no more will follow."""
        while self.credit <= 0 and not self.outcome:
            self.wait(math.inf)
        self.check()
        self.credit -= len(message) + OVERHEAD
        self.write(message, has_message=True, half_close=last)

    def close_sending(self):
        """Says that no more messages follow; not needed after send(last=True)."""
        self.outcome or self.write(half_close=True)

    def receive(self, timeout=math.inf):
        """The next message, or None after the last. Raises RpcError where the call, or the time, is over."""
        until = time.monotonic() + timeout
        while not self.inbox and not self.outcome:
            self.wait(until)
        if not self.inbox:
            return self.check()
        message = self.inbox.popleft()
        self.consumed += len(message) + OVERHEAD
        if self.consumed >= WINDOW // 4 and not self.outcome:
            self.write(kind=Frame.KIND_CREDIT, credit=self.consumed)
            self.consumed = 0
        return message

    def cancel(self, code="CANCELLED", message="the call was cancelled"):
        """Ends the call; the server hears of it if it is not over."""
        if not self.outcome and not self.opening and self.channel.socket.poll(0, zmq.POLLOUT):
            self.write(kind=Frame.KIND_CANCEL)
        self.end(code, message)

    def write(self, *message, **header):
        seconds = max(0, min(CONNECT_SECONDS, self.deadline - time.monotonic()))
        if not self.channel.socket.poll(seconds * 1000, zmq.POLLOUT):
            self.end("UNAVAILABLE", f"nobody answers at {self.channel.endpoint}")
            self.check()
        header, self.opening = {"kind": Frame.KIND_DATA, "call_id": self.id, **header, **(self.opening or {})}, None
        self.channel.socket.send_multipart([Frame(**header).SerializeToString(), *message])

    def wait(self, until):
        self.opening and self.write()
        self.channel.pump(min(until, self.deadline))
        if not self.outcome and not self.inbox and time.monotonic() >= min(until, self.deadline):
            self.cancel("DEADLINE_EXCEEDED", "the time for an answer is over")

    def hear(self, frame, message):
        self.credit += frame.credit
        self.inbox.extend(message)
        self.metadata += [(entry.key, entry.binary or entry.text) for entry in frame.metadata]
        self.trailers += [(entry.key, entry.binary or entry.text) for entry in frame.trailing_metadata]
        if frame.kind == Frame.KIND_STATUS:
            self.end((CODES + ["UNKNOWN"])[min(frame.status_code, len(CODES))], frame.status_message)

    def end(self, code, message):
        self.outcome = self.outcome or (code, message)
        self.channel.calls.pop(self.id, None)

    def check(self):
        if self.outcome and self.outcome[0] != "OK":
            raise RpcError(*self.outcome, self.trailers)

    def __iter__(self): return iter(self.receive, None)  # noqa: E704
    def __enter__(self): return self  # noqa: E704
    def __exit__(self, *_): self.cancel()  # noqa: E704
