"""Kills, injected errors and torn logs, one after another, on a fleet that works."""

from __future__ import annotations

import collections
import random
import time

import damage
from fleet import Fleet
from injection import Injection
from programs import Program
from records import Acknowledgements, filed
from report import Result, say
from triallog import LogAudit, Trial

# Share of lives in which something fails, and of ingest's deaths after which its log is found torn.
_INJECTED_LIVES = 0.35
_TORN_DEATHS = 0.5
# How long a robot may take to hear an acknowledgement that is under way. Until then nobody may touch a log's tail.
_HEARING_SECONDS = 1.5
_SAY_SECONDS = 15.0
# Of the last events that are told where a promise breaks.
_EVENTS = 12


class Chaos:
    """One random victim after another; every process that is down comes back after a moment."""

    def __init__(self, fleet: Fleet, chance: random.Random, result: Result, acknowledged: Acknowledgements):
        self._fleet, self._chance, self._result, self._acknowledged = fleet, chance, result, acknowledged
        self._audit = LogAudit(fleet.folder / "ingest" / "log")
        # When a process that is down starts again, and when errors begin in one that runs.
        self._start_at: dict[Program, float] = {}
        self._fail_at: dict[Program, float] = {}
        self._said = 0.0
        # What happened last, to be told where a promise breaks.
        self._recent: collections.deque[tuple[str, str]] = collections.deque(maxlen=400)
        self._gone: set[Trial] = set()
        self._began = time.monotonic()
        self.kills: collections.Counter[str] = collections.Counter()
        self.torn: list[str] = []
        self.gave_up = 0

    def run(self, kills: int, seconds: float) -> None:
        """So many kills, spread over about this time."""
        began = next_kill = time.monotonic()
        interval = seconds / kills
        while self._result.kills < kills:
            now = time.monotonic()
            self.tend(now)
            if now >= next_kill:
                self._kill_one(now)
                # Behind the plan, e.g. where the machine is slow: catch up, but leave time to start between two.
                planned = began + interval * self._result.kills
                next_kill = max(planned, now + interval / 3) + self._chance.uniform(-0.3, 0.3) * interval
            if now - self._said > _SAY_SECONDS:
                self._said = now
                self._say()
            time.sleep(0.02)

    def end(self) -> None:
        """No more faults: every process lives again, with nothing injected."""
        for program in self._fleet.victims:
            if program.process is None or program.errors is not None:
                self._down(program)
                program.start()
        for program in self._fleet.victims:
            program.wait_ready()
        self._start_at, self._fail_at = {}, {}

    def tend(self, now: float) -> None:
        """Sees who ended by itself, starts who is due, begins errors that are due."""
        for program in self._fleet.all:
            if program.process is not None and program.process.poll() is not None:
                self._mourn(program, now)
            if program.process is None and self._start_at.get(program, now) <= now:
                self._start_at.pop(program, None)
                self._start(program, now)
            if program in self._fail_at and self._fail_at[program] <= now and program.is_ready:
                del self._fail_at[program]
                if program.errors.begin(program.pid):
                    self._result.faults += 1
                    self._note(program.name, program.errors.command)

    def _kill_one(self, now: float) -> None:
        living = [program for program in self._fleet.victims if program.process is not None]
        if not living:
            return
        victim = self._chance.choice(living)
        victim.kill()
        self._result.kills += 1
        self.kills[victim.name] += 1
        self._note(victim.name, "kill -9")
        self._mourn(victim, now)

    def _mourn(self, program: Program, now: float) -> None:
        """Takes note of a death, and plans the next start."""
        errors, pid = program.errors, program.pid
        death = program.ended()
        if errors:
            errors.tidy(pid)
        self._fail_at.pop(program, None)
        if death and death.is_crash:
            self._result.crashes += 1
            self._fail(str(death), program.name)
        elif death and not death.asked:
            self.gave_up += 1
            self._note(program.name, f"ended with status {death.status}")
        pause = min(3.0, self._chance.expovariate(1 / 0.25))
        if program is self._fleet.services["ingest"]:
            self._check_log()
            if self._chance.random() < _TORN_DEATHS:
                pause = max(pause, _HEARING_SECONDS + 0.2)
                self._start_at[program] = now + pause
                self._tear_log(now + _HEARING_SECONDS)
                return
        self._start_at[program] = now + pause

    def _tear_log(self, at: float) -> None:
        # The others live on meanwhile, only this campaign waits.
        time.sleep(max(0.0, at - time.monotonic()))
        log = self._fleet.folder / "ingest" / "log"
        places, what = self._audit.look(), ""
        if self._chance.random() < 0.5:
            waiting = {(robot, trial) for robot in self._fleet.robots for trial in self._fleet.spooled(robot)}
            what = damage.cut_tail(log, places, waiting - self._acknowledged.durable, self._chance)
        what = what or damage.append_torn_write(log, places, self._chance)
        if what:
            self.torn.append(what)
            self._result.faults += 1
            self._note("log", what)

    def _check_log(self) -> None:
        """Ingest is down: whatever it acknowledged until now must stand in its log now."""
        acknowledged = self._acknowledged.durable
        gone = acknowledged - {place.trial for place in self._audit.look()}
        if gone - self._gone:
            what = f"{len(gone - self._gone)} acknowledged trials are gone from the log, e.g. {sorted(gone)[0]}"
            self._fail(what, "ingest", "log")
        self._gone |= gone

    def _start(self, program: Program, now: float) -> None:
        errors = None
        if program in self._fleet.victims and self._chance.random() < _INJECTED_LIVES:
            errors = Injection.draw(self._chance, self._fleet.folder / "fiu")
            if errors.from_start:
                self._result.faults += 1
                self._note(program.name, f"from its start {errors.command}")
            else:
                self._fail_at[program] = now + self._chance.uniform(0.2, 2.0)
        program.start(errors)

    def _down(self, program: Program) -> None:
        errors, pid = program.errors, program.pid
        program.kill()
        program.ended()
        if errors:
            errors.tidy(pid)

    def _note(self, who: str, event: str) -> None:
        self._recent.append((who, f"{time.monotonic() - self._began:7.1f} s {who}: {event}"))

    def _fail(self, promise: str, *who: str) -> None:
        """A promise broke that has to do with these."""
        events = [event for about, event in self._recent if about in who][-_EVENTS:]
        self._result.fail(promise + "".join(f"\n  before it: {event}" for event in events))

    def _say(self) -> None:
        say(
            f"{self._result.kills} kills, {self._result.faults} faults injected, {len(self.torn)} torn logs, "
            f"{self.gave_up} ends on injected errors; {len(filed(self._fleet))} trials filed, "
            f"{len(self._acknowledged.durable)} acknowledged"
        )
