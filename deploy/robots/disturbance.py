"""Disturbances of a demonstration: a policy that saw only perfect motions never learns to come back from an error.

The executed action drifts off the expert's; the label stays clean (Laskey et al., DART, CoRL 2017, with a drift that
holds for some steps instead of independent noise alone).
"""

from __future__ import annotations

import random

import body

_HELD_STEPS = 8
_DRIFT_SHARE = 0.5


class Disturbance:
    """Adds a drift of standard deviation `strength` to x, y and z half of the time, and half as much noise always."""

    def __init__(self, strength: float, seed: int):
        self._strength, self._random = strength, random.Random(seed)
        self._drift, self._step = [0.0, 0.0, 0.0], 0

    @classmethod
    def of(cls, options: dict[str, str], seed: int) -> "Disturbance":
        """From the option "noise": action units, [0, 1]; absent for none."""
        return cls(body.number(options, "noise", 0.0, 0.0, 1.0), seed)

    def disturb(self, action: list[float]) -> list[float]:
        """The action to execute instead, each component in [-1, 1]."""
        if self._strength == 0:
            return action
        if self._step % _HELD_STEPS == 0:
            active = self._random.random() < _DRIFT_SHARE
            self._drift = [self._random.gauss(0, self._strength) if active else 0.0 for _ in range(3)]
        self._step += 1
        moved = [
            component + drift + self._random.gauss(0, self._strength / 2)
            for component, drift in zip(action, self._drift)
        ]
        return [min(1.0, max(-1.0, component)) for component in moved] + [action[3]]
