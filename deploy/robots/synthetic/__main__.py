"""A load generator that speaks a robot's protocol: `python deploy/robots/synthetic --agent ENDPOINT --robot NAME`.

Nothing is simulated: a bright square moves over noise, the joints swing, and whether a trial "succeeds" is drawn from
its seed. It is for tests and soak runs of the services. Its success rates say nothing about any policy.
"""

from __future__ import annotations

import math
import pathlib
import random
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

import body  # noqa: E402
import controlprogram  # noqa: E402
from faults import Fault  # noqa: E402

_SQUARE = 24


class SyntheticRobot(body.Body):
    """Frames of `size` pixels and trials of `steps` steps; a share `success` of the seeds succeed."""

    control_hertz = 20.0
    longest_trial = 10_000

    def __init__(self, size: int, steps: int, success: float, tasks: tuple[str, ...]):
        self.tasks = tasks
        self.image_height = self.image_width = size
        self._steps, self._share = steps, success

    def prepare(self, task: str, seed: int, options: dict[str, str]) -> None:
        self._random = random.Random(f"{task}/{seed}")
        self._fault, self._step = Fault(options.get("fault", "")), 0
        self._succeeds = not self._fault.kind and self._random.random() < self._share
        noise = np.random.default_rng(self._random.getrandbits(32))
        self._background = noise.integers(60, 160, (self.image_height, self.image_width, 3), dtype=np.uint8)
        self._phase = self._random.uniform(0, math.tau)

    def observe(self) -> body.Observation:
        angle = self._phase + 0.1 * self._step
        image = self._background.copy()
        top = int((self.image_height - _SQUARE) * (0.5 + 0.4 * math.sin(angle)))
        left = int((self.image_width - _SQUARE) * (0.5 + 0.4 * math.cos(angle)))
        image[top : top + _SQUARE, left : left + _SQUARE] = (250, 220, 40)
        joints = [0.3 * math.sin(angle + joint) for joint in range(7)]
        return body.Observation(image.tobytes(), joints, 0.5 + 0.5 * math.sin(angle))

    def expert_action(self) -> list[float]:
        angle = self._phase + 0.1 * self._step
        return [0.8 * math.cos(angle), 0.8 * math.sin(angle), 0.1, -1.0]

    def act(self, action: list[float]) -> None:
        self._fault.alter(action)
        self._step += 1

    @property
    def succeeded(self) -> bool:
        return self._succeeds and self._step >= self._steps

    @property
    def failure_code(self) -> str:
        given_up = not self._succeeds and self._step >= self._steps
        return self._fault.failure_code or ("synthetic" if given_up else "")


def main() -> int:
    parser = controlprogram.argument_parser("Load generator with a robot's protocol; simulates nothing.")
    parser.add_argument("--size", type=int, default=224, help="pixels of the square image (224)")
    parser.add_argument("--steps", type=int, default=30, help="steps of a trial (30)")
    parser.add_argument("--success", type=float, default=0.8, help="share of seeds that succeed (0.8)")
    parser.add_argument("--tasks", default="", help="tasks that it offers, with commas between (any)")
    arguments = parser.parse_args()
    if arguments.size < 2 * _SQUARE or arguments.steps < 1 or not 0 <= arguments.success <= 1:
        parser.error(f"--size is at least {2 * _SQUARE}, --steps at least 1, --success in [0, 1]")
    tasks = tuple(filter(None, arguments.tasks.split(",")))
    return controlprogram.run(SyntheticRobot(arguments.size, arguments.steps, arguments.success, tasks), arguments)


if __name__ == "__main__":
    sys.exit(main())
