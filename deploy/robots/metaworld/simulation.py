"""One simulated Sawyer arm of Meta-World: tasks, layouts, scripted experts and success as Meta-World defines them."""

from __future__ import annotations

import collections
import zlib

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

import body
from camera import Camera
from faults import Fault
from randomization import Randomizer

TASKS = sorted(ALL_V3_ENVIRONMENTS)
# Meta-World refuses more steps than this without a reset.
LONGEST_TRIAL = 500
_GRIPPER = 3
_RANDOMIZATION_STREAM, _LAYOUT_STREAM = 1, 0


class _Workcell:
    """A task's environment with its camera: a second and about 150 MB to build, so they are kept."""

    def __init__(self, task: str):
        self.environment = ALL_V3_ENVIRONMENTS[task]()
        # The expert needs the goal; policies get images and joint angles only.
        self.environment._partially_observable = False
        self.environment.__dict__.pop("sawyer_observation_space", None)
        # What `set_task` would do, but with a layout drawn from our seed.
        self.environment._freeze_rand_vec = False
        self.environment.seeded_rand_vec = True
        self.environment._set_task_called = True
        self.camera = Camera(self.environment.model, self.environment.data)
        self.randomizer = Randomizer(self.environment.model, self.camera)

    def show_goal(self) -> None:
        """Puts the goal markers where the goal is: Meta-World leaves them behind at a reset and in a few tasks."""
        for name, position in self.environment._target_site_config:
            self.environment._set_pos_site(name, np.asarray(position))

    def close(self) -> None:
        self.camera.close()
        self.environment.close()


class MetaWorldRobot(body.Body):
    """The body that a control program moves.

    `randomize` is the strength of the domain randomisation, [0, 1]; `kept` the number of environments kept in memory.
    """

    control_hertz = 80.0
    image_height = image_width = 224
    longest_trial = LONGEST_TRIAL
    tasks = tuple(TASKS)

    def __init__(self, randomize: float = 0.0, kept: int = 2):
        self._randomize, self._kept = randomize, kept
        self._cells: collections.OrderedDict[str, _Workcell] = collections.OrderedDict()

    def prepare(self, task: str, seed: int, options: dict[str, str]) -> None:
        cell = self._cell(task)
        self._fault = Fault(options.get("fault", ""))
        strength = body.number(options, "randomize", self._randomize, 0.0, 1.0)
        cell.randomizer.apply(strength, np.random.default_rng(self._entropy(task, seed, _RANDOMIZATION_STREAM)))
        # `reset(seed=)` is ignored by Meta-World. The same seed must not give every task the same layout.
        layout = np.random.SeedSequence(self._entropy(task, seed, _LAYOUT_STREAM)).generate_state(1)[0]
        cell.environment.seed(int(layout))
        self._observation, _ = cell.environment.reset()
        self._now, self._expert, self._succeeded = cell, ENV_POLICY_MAP[task](), False
        self._unstable = False

    def observe(self) -> body.Observation:
        self._now.show_goal()
        image = self._now.camera.draw()
        joints = self._now.environment.data.qpos[:7]
        gripper = float(np.clip(self._observation[_GRIPPER], 0.0, 1.0))
        return body.Observation(image.tobytes(), [float(angle) for angle in joints], gripper)

    def expert_action(self) -> list[float]:
        # Raw actions reach 25; the arm moves as if they were 1.
        action = np.clip(self._expert.get_action(self._observation), -1.0, 1.0)
        return [float(component) for component in action]

    def act(self, action: list[float]) -> None:
        executed = np.clip(np.asarray(self._fault.alter(action), dtype=np.float64), -1.0, 1.0)
        self._observation, _, _, _, info = self._now.environment.step(executed)
        self._unstable = bool(self._now.environment._did_see_sim_exception)
        self._succeeded = self._succeeded or float(info["success"]) > 0

    @property
    def succeeded(self) -> bool:
        return self._succeeded

    @property
    def failure_code(self) -> str:
        return "simulation-unstable" if self._unstable else self._fault.failure_code

    @property
    def timeout_code(self) -> str:
        return self._fault.timeout_code

    def close(self) -> None:
        while self._cells:
            self._cells.popitem()[1].close()

    def _cell(self, task: str) -> _Workcell:
        if task not in ALL_V3_ENVIRONMENTS:
            raise body.UnknownTask(f'Meta-World has no task "{task}"; it has {", ".join(TASKS)}')
        cell = self._cells.pop(task, None)
        if cell is None:
            while len(self._cells) >= self._kept:
                self._cells.popitem(last=False)[1].close()
            cell = _Workcell(task)
        self._cells[task] = cell
        return cell

    @staticmethod
    def _entropy(task: str, seed: int, stream: int) -> list[int]:
        return [zlib.crc32(task.encode()), seed, stream]
