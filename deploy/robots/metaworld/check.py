"""`--check`: what the scripted experts achieve and what a step costs, without an agent."""

from __future__ import annotations

import json
import time

from controlprogram import SUCCESS_TAIL
from disturbance import Disturbance
from simulation import MetaWorldRobot

EASY_TASKS = (
    "reach-v3",
    "button-press-topdown-v3",
    "drawer-open-v3",
    "drawer-close-v3",
    "door-open-v3",
    "window-open-v3",
    "faucet-open-v3",
    "plate-slide-v3",
)


def run(robot: MetaWorldRobot, tasks: list[str], trials: int, max_steps: int, options: dict[str, str]) -> None:
    """Lets the expert do `trials` trials of each task and prints a JSON line per task."""
    for task in tasks:
        successes, lengths, reset_seconds, steps, spent = 0, [], 0.0, 0, {"image": 0.0, "expert": 0.0, "physics": 0.0}
        for seed in range(trials):
            began = time.perf_counter()
            robot.prepare(task, seed, options)
            disturbance = Disturbance.of(options, seed)
            reset_seconds += time.perf_counter() - began
            tail = SUCCESS_TAIL
            for _ in range(max_steps):
                marks = [time.perf_counter()]
                robot.observe()
                marks.append(time.perf_counter())
                action = disturbance.disturb(robot.expert_action())
                marks.append(time.perf_counter())
                robot.act(action)
                marks.append(time.perf_counter())
                for name, first, second in zip(spent, marks, marks[1:]):
                    spent[name] += second - first
                steps += 1
                if robot.succeeded:
                    tail -= 1
                if tail < 0 or robot.failure_code:
                    break
            successes += robot.succeeded
            lengths.append(steps - sum(lengths))
        row = {"task": task, "successes": successes, "trials": trials, "meanSteps": round(steps / trials, 1)}
        row |= {f"{name}Millis": round(1e3 * seconds / steps, 2) for name, seconds in spent.items()}
        row["stepMillis"] = round(1e3 * sum(spent.values()) / steps, 2)
        row["resetMillis"] = round(1e3 * reset_seconds / trials, 1)
        print(json.dumps(row), flush=True)
