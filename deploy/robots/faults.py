"""Broken hardware, on purpose: what happens between a commanded action and the arm.

A work order asks for one with the option "fault". The agent and the policy are not told: they see a robot that does not
do what it is told, as they would with a real one.

- "gripper-stuck": the gripper does not move. The arm's own controller notices after a few steps, gives the task up and
  draws the arm back from the table, which is what industrial arms do; the trial ends as a failure a little later.
- "gripper-open": only the gripper ignores its command. Tasks that need a grasp fail, tasks that need a push do not.
- "arm-stuck": the arm holds its place whatever it is told.
"""

from __future__ import annotations

import body

KINDS = ("gripper-stuck", "gripper-open", "arm-stuck")
_NOTICED_AFTER = 5
_GIVEN_UP_AFTER = 30
_OPEN = -1.0
_BACK_AND_UP = (0.0, -1.0, 1.0)


class UnknownFault(body.BadOption):
    """The order asks for a fault that nobody can simulate."""


class Fault:
    """The fault of one trial; `kind` is one of KINDS, or empty for sound hardware. Raises UnknownFault."""

    def __init__(self, kind: str = ""):
        if kind and kind not in KINDS:
            raise UnknownFault(f'unknown fault "{kind}": use one of {", ".join(KINDS)}')
        self.kind, self._steps = kind, 0

    def alter(self, action: list[float]) -> list[float]:
        """What the hardware does when it is told `action` (x, y, z, gripper)."""
        self._steps += 1
        x, y, z, gripper = action
        if self.kind == "arm-stuck":
            return [0.0, 0.0, 0.0, gripper]
        if self.kind == "gripper-open":
            return [x, y, z, _OPEN]
        if self.kind == "gripper-stuck":
            return [x, y, z, _OPEN] if self._steps <= _NOTICED_AFTER else [*_BACK_AND_UP, _OPEN]
        return action

    @property
    def failure_code(self) -> str:
        """Not empty once the hardware has given the trial up."""
        if self.kind == "gripper-stuck" and self._steps >= _GIVEN_UP_AFTER:
            return "gripper-fault"
        return ""

    @property
    def timeout_code(self) -> str:
        """What a trial that ran out of steps is put down to."""
        return {"gripper-open": "gripper-fault", "arm-stuck": "arm-fault"}.get(self.kind, "timeout")
