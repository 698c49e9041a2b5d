"""Calls the echo service of Tests/BusTests from Python. Usage: bus_client_test.py ENDPOINT [KEYS SERVER_KEY]"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy" / "robots"))
import fleetbus  # noqa: E402


def raises(code, body):
    try:
        body()
    except fleetbus.RpcError as error:
        assert error.code == code, error
        return error
    raise AssertionError(f"{code} was due")


def main(endpoint, keys=None, server_key=None):
    channel = fleetbus.Channel(endpoint, server_key=server_key, keys=keys)
    checks = 0

    # Unary, and a message far above the credit of a call's start.
    for size in (0, 1, 1 << 20):
        assert channel.unary("test.Echo/unary", b"x" * size, timeout=120) == b"x" * size
    checks += 1

    # Client streaming.
    with channel.stream("test.Echo/join", timeout=120) as call:
        for number in range(100):
            call.send(bytes([number]))
        call.close_sending()
        assert list(call) == [bytes(range(100))]
    checks += 1

    # Server streaming: 32 MiB, which is eight windows.
    with channel.stream("test.Echo/flood", timeout=120) as call:
        call.send(bytes([32]), last=True)
        assert sum(len(message) for message in call) == 32 << 20
    checks += 1

    # Bidirectional: each message waits for the answer to the one before.
    with channel.stream("test.Echo/echo", timeout=120, metadata=[("ask", "you"), ("ask-bin", b"\0\xff")]) as call:
        for number in range(50):
            call.send(str(number).encode())
            assert call.receive() == str(number).encode()
        call.close_sending()
        assert call.receive() is None
        assert ("seen", "echo") in call.metadata, call.metadata
        assert ("told", "you") in call.trailers and ("told-bin", b"\0\xff") in call.trailers, call.trailers
    checks += 1

    # 16 MiB one way, several windows, while the answers are read late: credit of both sides.
    with channel.stream("test.Echo/join", timeout=120) as call:
        for _ in range(64):
            call.send(b"y" * (256 << 10))
        call.close_sending()
        assert len(call.receive()) == 16 << 20
    checks += 1

    # Errors.
    assert raises("NOT_FOUND", lambda: channel.unary("test.Echo/fail", b"\5", timeout=120)).message == "code 5"
    raises("UNIMPLEMENTED", lambda: channel.unary("no.Such/Method", b"", timeout=120))
    checks += 1

    # A deadline ends the call on both sides.
    began = time.monotonic()
    raises("DEADLINE_EXCEEDED", lambda: channel.unary("test.Echo/hang", b"", timeout=0.5))
    assert time.monotonic() - began < 60
    checks += 1

    # Cancelling: the Swift test sees the handler's task cancelled.
    call = channel.stream("test.Echo/sleep", timeout=120)
    call.send(b"")
    assert call.channel.unary("test.Echo/unary", b"after", timeout=120) == b"after"
    time.sleep(0.3)
    call.cancel()
    assert channel.unary("test.Echo/unary", b"after", timeout=120) == b"after"
    checks += 1

    channel.close()
    print(f"{checks} checks passed")


main(*sys.argv[1:])
