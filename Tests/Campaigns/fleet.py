"""A fleet on this machine as a supervisor sees it: five services, agents and synthetic robots, each a process."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from programs import CampaignError, Program

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVICES = ("ingest", "monitor", "rollout", "inference", "training")


class Fleet:
    """Everything under one temporary folder; use it as a context: leaving it ends every process and deletes the folder.

    `binaries`: folder of the executables. `robots`: how many. `settings`: further `service.key` values.
    """

    def __init__(self, binaries: pathlib.Path, robots: int, settings: dict[str, str]):
        # Short: the path of an ipc socket has 107 bytes at most.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fl-campaign-", dir="/tmp"))
        self.binaries = binaries
        self.robots = [f"robot-{number + 1}" for number in range(robots)]
        for name in [*SERVICES, "logs", "keys", "sockets", "robots"]:
            (self.folder / name).mkdir()
        self._configure(settings)
        self.services = {name: self._service(name) for name in SERVICES}
        self.agents = {name: self._agent(name) for name in self.robots}
        self.control = {name: self._program(name) for name in self.robots}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        # Who loses patience now must not leave processes behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for program in self.all:
            program.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def victims(self) -> list[Program]:
        """What a campaign may kill: services and agents."""
        return [*self.services.values(), *self.agents.values()]

    @property
    def all(self) -> list[Program]:
        return [*self.control.values(), *self.agents.values(), *self.services.values()]

    def start(self) -> None:
        """Starts what does not run, services first, and waits until each is ready."""
        for group in (self.services, self.agents, self.control):
            for program in group.values():
                if program.process is None:
                    program.start()
            for program in group.values():
                program.wait_ready()

    def socket(self, name: str) -> str:
        return f"ipc://{self.folder}/sockets/{name}"

    def agent_socket(self, robot: str) -> str:
        return self.socket(f"robot-{robot}")

    def operator(self, *words: str, seconds: float = 120) -> str:
        """What `fleet WORDS` prints. Raises CampaignError where it fails."""
        command = [str(self.binaries / "fleet"), *words, "--data", str(self.folder)]
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        if done.returncode != 0:
            raise CampaignError(f"fleet {' '.join(words)} failed: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout.decode()

    def spooled(self, robot: str) -> set[str]:
        """Ids of the trials that the robot filed and that are still in its spool."""
        ready = self.folder / "robots" / robot / "spool" / "ready"
        return {name.split("_", 1)[1] for name in os.listdir(ready) if "_" in name} if ready.exists() else set()

    def refused(self, robot: str) -> set[str]:
        """Ids of the trials that the robot moved aside."""
        folder = self.folder / "robots" / robot / "spool" / "refused"
        names = os.listdir(folder) if folder.exists() else []
        return {name.split("_", 1)[1] for name in names if "_" in name and not name.endswith(".reason")}

    def _configure(self, settings: dict[str, str]) -> None:
        sockets = [
            "ingest.rpc", "ingest.trials", "ingest.publications", "training.rpc", "training.publications",
            "inference.rpc", "monitor.rpc", "monitor.telemetry", "monitor.publications", "rollout.rpc",
            "rollout.publications",
        ]  # fmt: skip
        keys = self.folder / "keys"
        values = {name: self.socket(name) for name in sockets}
        values |= {f"{name}.data": str(self.folder / name) for name in SERVICES}
        values |= {f"{name}.trusted-keys": str(keys / "signing.pub") for name in ("inference", "rollout", "robot")}
        values |= {
            "training.signing-key": str(keys / "signing.key"),
            "monitor.http": "127.0.0.1:0",
            # A campaign that is killed leaves nobody behind.
            "process.parent": str(os.getpid()),
            "fleet.robots": ",".join(self.robots),
            "fleet.sockets": str(self.folder / "sockets"),
        }
        tree: dict[str, dict[str, str]] = {}
        for key, value in (values | settings).items():
            service, name = key.split(".", 1)
            tree.setdefault(service, {})[name] = value
        (self.folder / "config.json").write_text(json.dumps(tree))

    def _executable(self, name: str, role: str, settings: dict[str, str]) -> Program:
        command = [str(self.binaries / role), "--config", str(self.folder / "config.json")]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        return Program(name, command, self.folder / "logs" / f"{name}.log")

    def _service(self, name: str) -> Program:
        return self._executable(name, name, {})

    def _agent(self, robot: str) -> Program:
        data = str(self.folder / "robots" / robot)
        return self._executable(
            robot, "robot", {"robot.name": robot, "robot.data": data, "robot.rpc": self.agent_socket(robot)}
        )

    def _program(self, robot: str) -> Program:
        command = [
            sys.executable, str(ROOT / "deploy/robots/synthetic"), "--agent", self.agent_socket(robot),
            "--robot", robot, "--parent", str(os.getpid()),
            # Small and short: the campaign is about the trials' number. All succeed, so that no robot is taken out.
            "--size", "96", "--steps", "8", "--success", "1",
        ]  # fmt: skip
        return Program(f"{robot}-program", command, self.folder / "logs" / f"{robot}-program.log", says_ready=False)
