"""Tests of deploy/robots without MuJoCo and without an agent. Run: python -m unittest Tests/Interop/robot_programs_test.py"""

import contextlib
import pathlib
import signal
import subprocess
import sys
import time
import unittest

ROBOTS = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "robots"
sys.path.insert(0, str(ROBOTS))

import body  # noqa: E402
import controlprogram  # noqa: E402
from agent import messages  # noqa: E402
from disturbance import Disturbance  # noqa: E402
from faults import Fault, UnknownFault  # noqa: E402


class Arm(body.Body):
    """Succeeds at step `success`; fails in the way that a test asks for."""

    control_hertz, image_height, image_width, longest_trial = 20.0, 16, 16, 1_000

    def __init__(self, success=3, error=None, prepare_error=None):
        self.success, self.error, self.prepare_error, self.actions = success, error, prepare_error, []

    def prepare(self, task, seed, options):
        if self.prepare_error:
            raise self.prepare_error
        self.actions = []

    def observe(self):
        return body.Observation(bytes(16 * 16 * 3), [0.0] * 7, 0.5)

    def expert_action(self):
        return [0.5, 0.0, 0.0, 1.0]

    def act(self, action):
        if self.error:
            raise self.error
        self.actions.append(action)

    @property
    def succeeded(self):
        return self.success is not None and len(self.actions) >= self.success

    @property
    def failure_code(self):
        return ""


class Trial:
    def __init__(self, stop_at):
        self.observed, self.finished, self.stop_at = [], None, stop_at

    def observe(self, request):
        self.observed.append(request)
        stop = len(self.observed) == self.stop_at
        action = list(request.proposed_action or request.expert_action) or [0.0] * 4
        return messages.Command(step=request.step, action=action, stop=stop)

    def finish(self, finish):
        self.finished = finish
        return messages.TrialFiled(trial_id="t1", durable=True)


class AgentStub:
    def __init__(self, stop_at=0):
        self.start, self.stream = None, Trial(stop_at)

    @contextlib.contextmanager
    def trial(self, start):
        self.start = start
        yield self.stream


def item(**fields):
    fields = {"order_id": "o1", "task": "t", "mode": messages.CONTROL_MODE_DEMONSTRATION, "seed": 4, **fields}
    return messages.WorkItem(max_steps=50, **fields)


class ControlProgramTests(unittest.TestCase):
    def run_trial(self, arm, agent=None, **fields):
        agent = agent or AgentStub()
        controlprogram.run_trial(agent, arm, item(**fields), cadence=0)
        return agent

    def test_success_is_recorded_with_a_tail(self):
        agent = self.run_trial(Arm(success=3))
        self.assertEqual(agent.start.order_id, "o1")
        self.assertEqual(agent.start.seed, 4)
        self.assertEqual([seen.step for seen in agent.stream.observed], list(range(2 + controlprogram.SUCCESS_TAIL)))
        self.assertEqual(agent.stream.finished.outcome, messages.OUTCOME_SUCCESS)

    def test_steps_run_out(self):
        agent = self.run_trial(Arm(success=None))
        self.assertEqual(len(agent.stream.observed), 50)
        self.assertEqual(agent.stream.finished.outcome, messages.OUTCOME_FAILURE)
        self.assertEqual(agent.stream.finished.failure_code, "timeout")

    def test_labels_only_where_they_are_asked_for(self):
        for mode, labels in ((messages.CONTROL_MODE_POLICY, 0), (messages.CONTROL_MODE_LABELLED_POLICY, 4)):
            agent = self.run_trial(Arm(), mode=mode)
            self.assertEqual(len(agent.stream.observed[0].expert_action), labels)
            self.assertEqual(len(agent.stream.observed[0].proposed_action), 0)

    def test_noise_leaves_the_label_clean(self):
        arm = Arm(success=None)
        agent = self.run_trial(arm, options={"noise": "0.3"})
        for seen, done in zip(agent.stream.observed, arm.actions):
            self.assertEqual(list(seen.expert_action), [0.5, 0.0, 0.0, 1.0])
            self.assertEqual(list(seen.proposed_action), done)
        self.assertGreater(len({tuple(action) for action in arm.actions}), 40)

    def test_a_stop_ends_the_trial(self):
        agent = self.run_trial(Arm(), AgentStub(stop_at=2))
        self.assertEqual(len(agent.stream.observed), 2)
        self.assertEqual(agent.stream.finished.outcome, messages.OUTCOME_ABORTED)

    def test_what_is_not_the_policys_fault_is_aborted(self):
        cases = (
            (Arm(error=RuntimeError("broken")), {}, "program-error"),
            (Arm(prepare_error=body.UnknownTask("t")), {}, "unknown-task"),
            (Arm(prepare_error=RuntimeError("broken")), {}, "reset-failed"),
            (Arm(), {"options": {"noise": "lots"}}, "bad-option"),
        )
        for arm, fields, code in cases:
            agent = self.run_trial(arm, **fields)
            self.assertEqual(agent.stream.finished.outcome, messages.OUTCOME_ABORTED)
            self.assertEqual(agent.stream.finished.failure_code, code)


class ProcessTests(unittest.TestCase):
    def start(self, prefix=()):
        program = [sys.executable, str(ROBOTS / "synthetic"), "--agent", "ipc:///nonexistent/robot"]
        return subprocess.Popen([*prefix, *program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def test_ends_on_sigterm_although_its_starter_blocked_it(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            program = self.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        program.send_signal(signal.SIGTERM)
        self.assertEqual(program.wait(timeout=60), 0)
        program.stdout.close()

    def test_ends_with_its_parent(self):
        # The shell starts it, says its process id, and ends.
        shell = self.start(prefix=("sh", "-c", '"$@" --parent $$ & echo $!; sleep 2', "sh"))
        child = int(shell.stdout.readline())
        shell.wait(timeout=60)
        deadline = time.monotonic() + 60
        while pathlib.Path(f"/proc/{child}/cmdline").exists() and time.monotonic() < deadline:
            if pathlib.Path(f"/proc/{child}/cmdline").read_bytes() == b"":
                break  # A zombie that nobody reaps has ended all the same.
            time.sleep(0.05)
        self.assertLess(time.monotonic(), deadline)
        shell.stdout.close()


class FaultTests(unittest.TestCase):
    def test_sound_hardware_does_what_it_is_told(self):
        self.assertEqual(Fault("").alter([0.1, 0.2, 0.3, 0.4]), [0.1, 0.2, 0.3, 0.4])

    def test_a_stuck_gripper_ends_the_trial(self):
        fault = Fault("gripper-stuck")
        done = []
        while not fault.failure_code:
            done.append(fault.alter([0.1, 0.2, 0.3, 1.0]))
        self.assertEqual(fault.failure_code, "gripper-fault")
        self.assertTrue(all(action[3] == -1 for action in done))
        self.assertEqual(done[-1][:3], [0.0, -1.0, 1.0])

    def test_unknown_faults_are_refused(self):
        with self.assertRaises(UnknownFault):
            Fault("coffee-stain")


class DisturbanceTests(unittest.TestCase):
    def test_stays_in_bounds_and_spares_the_gripper(self):
        disturbance = Disturbance(1.0, seed=1)
        for _ in range(200):
            action = disturbance.disturb([1.0, -1.0, 0.0, -1.0])
            self.assertTrue(all(-1 <= component <= 1 for component in action))
            self.assertEqual(action[3], -1.0)

    def test_the_same_seed_disturbs_the_same_way(self):
        first, second = Disturbance(0.5, seed=3), Disturbance(0.5, seed=3)
        for _ in range(20):
            self.assertEqual(first.disturb([0.0] * 4), second.disturb([0.0] * 4))

    def test_options_are_checked(self):
        for text in ("nan", "-1", "2", "much"):
            with self.assertRaises(body.BadOption):
                Disturbance.of({"noise": text}, seed=1)


if __name__ == "__main__":
    unittest.main()
