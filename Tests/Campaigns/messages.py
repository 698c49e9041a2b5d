"""The fleet's messages and its bus, from Python: the client that robots use."""

from __future__ import annotations

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "deploy" / "robots"))

import fleetbus  # noqa: E402
import fleetschemas  # noqa: E402

schema = fleetschemas.load(
    "fleetloop/v1/bus.proto",
    "fleetloop/v1/inference.proto",
    "fleetloop/v1/ingest.proto",
    "fleetloop/v1/monitor.proto",
    "fleetloop/v1/robot.proto",
    "fleetloop/v1/rollout.proto",
    "fleetloop/v1/telemetry.proto",
    "fleetloop/v1/training.proto",
    "fleetloop/v1/trial.proto",
)
RpcError = fleetbus.RpcError
Channel = fleetbus.Channel


def ask(endpoint: str, method: str, request, answer, timeout: float = 10.0):
    """One unary call on a connection of its own. `method` without "fleetloop.v1."; raises RpcError."""
    channel = Channel(endpoint)
    try:
        data = channel.unary(f"fleetloop.v1.{method}", request.SerializeToString(), timeout=timeout)
    finally:
        channel.close()
    return answer.FromString(data)
