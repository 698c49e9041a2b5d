"""What a control program moves: the interface between the trial loop and a robot, simulated or real."""

from __future__ import annotations

import abc
import dataclasses
import math


class UnknownTask(ValueError):
    """The robot cannot do this task; no retry will help."""


class BadOption(ValueError):
    """An order's option has a value that means nothing."""


@dataclasses.dataclass(frozen=True)
class Observation:
    """image: height x width x 3 bytes, RGB, top row first; joint_angles: 7, radians; gripper: 0 closed, 1 open."""

    image: bytes
    joint_angles: list[float]
    gripper: float


class Body(abc.ABC):
    """One robot. Actions are x, y, z and gripper, each in [-1, 1]."""

    control_hertz: float
    image_height: int
    image_width: int
    # Steps that the robot can do without a reset.
    longest_trial: int
    # What a trial that ran out of steps is put down to.
    timeout_code: str = "timeout"
    # What the robot can do, so that the agent refuses other tasks before they are queued; empty: not known beforehand.
    tasks: tuple[str, ...] = ()

    @abc.abstractmethod
    def prepare(self, task: str, seed: int, options: dict[str, str]) -> None:
        """Sets up the layout `seed` of `task`. Raises UnknownTask, BadOption."""

    @abc.abstractmethod
    def observe(self) -> Observation:
        """What the robot sees now."""

    @abc.abstractmethod
    def expert_action(self) -> list[float]:
        """What the expert would do now."""

    @abc.abstractmethod
    def act(self, action: list[float]) -> None:
        """Moves for one step."""

    @property
    @abc.abstractmethod
    def succeeded(self) -> bool:
        """The task's own criterion was met in this trial."""

    @property
    @abc.abstractmethod
    def failure_code(self) -> str:
        """Not empty once the trial is lost and need not go on."""

    def close(self) -> None:
        """Frees what the body holds."""


def number(options: dict[str, str], name: str, default: float, low: float, high: float) -> float:
    """The option `name` as a number in [low, high]. Raises BadOption."""
    text = options.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise BadOption(f'option {name}="{text}" is not a number in [{low}, {high}]')
    return value
