"""A robot's control program: takes work from the agent, does one trial after another, reports how they ended.

The agent decides what the robot does: every observation goes to it and every action comes back from it. This loop only
observes, acts, and says whether the task's criterion was met. It never gives up: when the agent goes away the trial is
dropped (the agent files it as aborted) and the program connects again.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
import traceback

from agent import Agent, AgentError, messages
from body import BadOption, Body, UnknownTask
from disturbance import Disturbance

# Steps recorded after success, so that a policy also learns to stay there.
SUCCESS_TAIL = 5
_POLL_MILLIS = 5_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


def argument_parser(description: str) -> argparse.ArgumentParser:
    """The options that every control program has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--agent", default="", metavar="ENDPOINT", help="the agent's RPC endpoint, ipc:// or tcp://")
    parser.add_argument("--robot", default="robot", help="name of the robot, for the log")
    parser.add_argument("--cadence", type=float, default=0.0, metavar="HZ", help="steps a second at most (0: no bound)")
    parser.add_argument("--keys", default="", metavar="DIR", help="the agent's key folder, where it asks for keys")
    parser.add_argument("--parent", type=int, default=0, metavar="PID", help="process whose end ends this one (0: none)")
    return parser


def run(body: Body, arguments: argparse.Namespace) -> int:
    """Works until SIGTERM or SIGINT, or until its parent ends where it is to follow it. Returns the exit status."""
    if not arguments.agent:
        print("--agent ENDPOINT is missing: the agent prints its endpoint when it starts", file=sys.stderr)
        return 64
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # A supervisor's thread may have had them blocked when it started this process, and a mask is inherited.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    pause = _FIRST_PAUSE

    def orphaned() -> bool:
        # Its number comes from the parent: it may be gone before this program has asked for it.
        return arguments.parent > 0 and os.getppid() != arguments.parent

    while not orphaned():
        try:
            with Agent(arguments.agent, arguments.keys) as agent:
                while not orphaned():
                    item = agent.next_work(_POLL_MILLIS, body.tasks)
                    pause = _FIRST_PAUSE
                    if item is not None:
                        _log(arguments.robot, run_trial(agent, body, item, arguments.cadence))
        except AgentError as error:
            _log(arguments.robot, f"agent {arguments.agent}: {error}; again in about {pause:.1f} s")
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE)
    return 0


def run_trial(agent: Agent, body: Body, item, cadence: float) -> str:
    """One trial, from the reset to the agent's word that it is filed; returns a line for the log."""
    options = dict(item.options)
    try:
        disturbance = Disturbance.of(options, item.seed)
        body.prepare(item.task, item.seed, options)
        refusal = ""
    except UnknownTask as error:
        refusal, reason = "unknown-task", str(error)
    except BadOption as error:
        refusal, reason = "bad-option", str(error)
    except Exception:
        refusal, reason = "reset-failed", traceback.format_exc()
    start = messages.StartTrial(
        task=item.task,
        mode=item.mode,
        seed=item.seed,
        order_id=item.order_id,
        image_height=body.image_height,
        image_width=body.image_width,
        control_hertz=body.control_hertz,
    )
    start.labels.update(options)
    with agent.trial(start) as trial:
        if refusal:
            finish, steps = messages.FinishTrial(outcome=messages.OUTCOME_ABORTED, failure_code=refusal), 0
        else:
            finish, steps, reason = _steps(trial, body, item, disturbance, cadence)
        filed = trial.finish(finish)
    words = [item.task, f"seed {item.seed}", f"{steps} steps", finish.failure_code or "success"]
    return " ".join(filter(None, [filed.trial_id, *words, reason]))


def _steps(trial, body: Body, item, disturbance: Disturbance, cadence: float):
    """The control loop; returns how to finish, the number of steps, and what went wrong in words."""
    demonstration = item.mode == messages.CONTROL_MODE_DEMONSTRATION
    labelled = demonstration or item.mode == messages.CONTROL_MODE_LABELLED_POLICY
    limit = min(item.max_steps or body.longest_trial, body.longest_trial)
    tail, due, step = SUCCESS_TAIL, time.monotonic(), 0
    try:
        while step < limit and tail > 0 and not body.failure_code:
            seen = body.observe()
            request = messages.Observe(
                step=step, image=seen.image, joint_angles=seen.joint_angles, gripper=seen.gripper
            )
            if labelled:
                request.expert_action.extend(body.expert_action())
            if demonstration:
                proposed = disturbance.disturb(list(request.expert_action))
                if proposed != list(request.expert_action):
                    request.proposed_action.extend(proposed)
            command = trial.observe(request)
            if command.stop:
                return messages.FinishTrial(outcome=messages.OUTCOME_ABORTED, failure_code="stopped"), step, ""
            body.act(list(command.action))
            step += 1
            if body.succeeded:
                tail -= 1
            if cadence > 0:
                due = max(due + 1 / cadence, time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))
    except (AgentError, SystemExit):
        raise
    except Exception:
        # The simulator or the hardware failed, not the policy.
        finish = messages.FinishTrial(outcome=messages.OUTCOME_ABORTED, failure_code="program-error")
        return finish, step, traceback.format_exc()
    if body.succeeded:
        return messages.FinishTrial(outcome=messages.OUTCOME_SUCCESS), step, ""
    code = body.failure_code or body.timeout_code
    unstable = code == "simulation-unstable"
    outcome = messages.OUTCOME_ABORTED if unstable else messages.OUTCOME_FAILURE
    return messages.FinishTrial(outcome=outcome, failure_code=code), step, ""


def _log(robot: str, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {robot}: {text}", file=sys.stderr, flush=True)
