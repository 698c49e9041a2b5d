"""`deploy/test hostile`: peers that mean harm, on every bound socket: nobody ends, memory is bounded, others are served."""

from __future__ import annotations

import pathlib
import random
import resource
import sys
import time

import attackcalls
import attackhttp
import attacktopics
from attack import VICTIM, WORKER, Attack, Ground
from fleet import SERVICES, Fleet
from honest import READER, SUBSCRIBER, HonestClient, Sample
from memory import MemoryWatch
from messages import RpcError
from programs import CampaignError
from records import filed
from report import Result, say
from triallog import read_all
from work import Work

# An honest answer that takes longer, or does not come, breaks the promise. A robot's stop must come in this time.
_HONEST_SECONDS = 2.0
# Time in which memory must have fallen again, and honest answers come, once the attack is over.
_RECOVERY_SECONDS = 20.0
# Each attack's time, whatever the campaign's: too short proves nothing, too long nothing more.
_ATTACK_SECONDS = (1.5, 60.0)
# What an attack's preparation, recovery and the start of the fleet take of the campaign's time.
_ATTACK_SHARE = 0.6
_STOP, _PAGE = "stop", "http"
# What the honest reader reads again and again: more than one message, and soon read.
_READ_TRIALS, _READ_STEPS, _READ_SIZE = 3, 4, 48


def run(binaries: pathlib.Path, minutes: float, seed: int, only: str = "") -> int:
    """The campaign, or its attacks whose names hold a text. Returns the exit status: 64 where there is no such attack."""
    # 2,000 connections have a descriptor each at this end too.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    result, chance = Result("hostile", seed), random.Random(seed)
    attacks = [*attackcalls.attacks(), *attacktopics.attacks(), *attackhttp.attacks()]
    low, high = _ATTACK_SECONDS
    attacks = [attack for attack in attacks if only in attack.name]
    if not attacks:
        print(f"no attack's name holds '{only}'", file=sys.stderr)
        return 64
    seconds = min(high, max(low, minutes * 60 * _ATTACK_SHARE / len(attacks)))
    say(f"hostile: seed {seed}, {len(attacks)} attacks of {seconds:.1f} s, binaries in {binaries}")
    with Fleet(binaries, 2, {"log.level": "error"}) as fleet:
        try:
            _run(fleet, attacks, seconds, chance, result)
        except (CampaignError, RpcError) as error:
            result.fail(f"the campaign cannot go on: {error}")
    return result.end()


def _run(fleet: Fleet, attacks: list[Attack], seconds: float, chance: random.Random, result: Result) -> None:
    # The victim's control program would do work for whoever asks; the worker's does honest work all along.
    del fleet.control[VICTIM]
    fleet.start()
    work = Work(fleet, [WORKER])
    work.start()
    ground = Ground(fleet, chance)
    ground.reading = attackcalls.store(ground, "robot-read", _READ_TRIALS, _READ_STEPS, _READ_SIZE)
    for attack in attacks:
        _one(attack, ground, seconds, result)
    work.stop()
    _judge_trials(fleet, result)


def _one(attack: Attack, ground: Ground, seconds: float, result: Result) -> None:
    fleet = ground.fleet
    client = _client(ground)
    time.sleep(0.5)
    client.samples()
    with MemoryWatch(fleet.victims, ground.memory) as memory:
        ground.deadline = time.monotonic() + seconds
        try:
            sent = attack.run(ground)
        except RpcError as error:
            sent = 0
            result.fail(f"{attack.name}: its preparation failed: {error}")
        # The last questions' answers are part of it.
        time.sleep(0.3)
        samples = client.samples()
        after = _recover(attack, memory, client)
        # A question that was asked in the attack and answered behind it.
        samples += client.samples()
    client.stop()
    result.faults += sent
    broken = ground.broken + _broken(attack, samples, memory, after)
    ground.broken = []
    worst = max(memory.peak, key=lambda name: memory.peak[name] - memory.before[name])
    names = [attack.target] if worst == attack.target else [attack.target, worst]
    megabytes = "; ".join(f"{n} {memory.before[n]:.0f} → {memory.peak[n]:.0f} → {after[n]:.0f} MB" for n in names)
    say(f"{attack.name}: sent {sent}; honest {_latency(attack, samples)}; {megabytes}{'; BROKEN' if broken else ''}")
    for promise in broken:
        result.fail(f"{attack.name}: {promise}")
    _restart(attack, ground, memory, result)


def _client(ground: Ground) -> HonestClient:
    health = "grpc.health.v1.Health/Check"
    calls = {name: (ground.endpoint(f"{name}.rpc"), health, b"") for name in SERVICES}
    calls[VICTIM] = (ground.endpoint("robot.rpc"), health, b"")
    calls[_STOP] = (ground.endpoint("robot.rpc"), "fleetloop.v1.RobotService/Stop", b"")
    calls[READER] = (ground.endpoint("ingest.rpc"), "fleetloop.v1.IngestService/ReadTrials", ground.reading)
    # Of the robot that works: it files several trials a second.
    return HonestClient(calls, ground.address(), (ground.endpoint("ingest.publications"), f"acks/{WORKER}"))


def _recover(attack: Attack, memory: MemoryWatch, client: HonestClient) -> dict[str, float]:
    """Memory once it has fallen below the attack's bound, or when the time for that is over."""
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while True:
        now = memory.now()
        fallen = all(now[name] - memory.before[name] <= attack.after_megabytes for name in now)
        if fallen or time.monotonic() > deadline:
            return now
        time.sleep(0.2)


def _broken(attack: Attack, samples: list[Sample], memory: MemoryWatch, after: dict[str, float]) -> list[str]:
    """What was promised and did not hold."""
    broken = []
    for target in sorted({sample.target for sample in samples}):
        own = [sample for sample in samples if sample.target == target]
        failed = [sample for sample in own if sample.error]
        slowest = max(own, key=lambda sample: sample.seconds)
        if failed:
            broken.append(f"{target}: {len(failed)} of {len(own)} honest questions failed, e.g. {failed[0].error[:120]}")
        elif slowest.seconds > _HONEST_SECONDS:
            broken.append(f"{target}: an honest answer took {slowest.seconds:.1f} s, above {_HONEST_SECONDS:g} s")
    missing = {*SERVICES, VICTIM, _STOP, _PAGE, READER, SUBSCRIBER} - {sample.target for sample in samples}
    if missing:
        broken.append(f"{', '.join(sorted(missing))}: no honest answer at all")
    for name, before in memory.before.items():
        if memory.peak[name] - before > attack.peak_megabytes:
            peak, allowed = memory.peak[name], attack.peak_megabytes
            broken.append(f"{name} grew from {before:.0f} to {peak:.0f} MB (+{allowed} allowed)")
        if after[name] - before > attack.after_megabytes:
            broken.append(f"{name} kept {after[name] - before:.0f} MB (+{attack.after_megabytes} allowed)")
    return broken


def _latency(attack: Attack, samples: list[Sample]) -> str:
    """p50, p99 and maximum of the target's honest answers in ms; of all kinds that it gives."""
    texts = []
    kinds = {VICTIM: [_STOP], "monitor": [_PAGE], "ingest": [READER, SUBSCRIBER]}
    for target in [attack.target, *kinds.get(attack.target, [])]:
        times = sorted(sample.seconds * 1000 for sample in samples if sample.target == target and not sample.error)
        failed = sum(1 for sample in samples if sample.target == target and sample.error)
        if not times:
            texts.append(f"{target}: none, {failed} failed")
            continue
        p50, p99 = (times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99))
        lost = f", {failed} failed" if failed else ""
        texts.append(f"{target} p50 {p50:.1f}, p99 {p99:.1f}, max {times[-1]:.1f} ms of {len(times)}{lost}")
    return "; ".join(texts)


def _restart(attack: Attack, ground: Ground, memory: MemoryWatch, result: Result) -> None:
    """Who died is a crash. Who died, or was left fat or deaf by this attack, begins the next one afresh."""
    for program in ground.fleet.all:
        death = program.ended()
        if death:
            result.crashes += 1
            result.fail(f"{attack.name}: {death}")
    now = memory.now()
    for program in ground.fleet.victims:
        if program.process and now[program.name] - memory.before[program.name] > attack.after_megabytes:
            program.kill()
            program.ended()
    if not _page_answers(ground):
        ground.fleet.services["monitor"].kill()
        ground.fleet.services["monitor"].ended()
    ground.fleet.start()


def _page_answers(ground: Ground) -> bool:
    if ground.fleet.services["monitor"].process is None:
        return True
    client = HonestClient({}, ground.address())
    deadline = time.monotonic() + 5
    try:
        while time.monotonic() < deadline:
            if any(not sample.error for sample in client.samples()):
                return True
            time.sleep(0.1)
        return False
    finally:
        client.stop()


def _judge_trials(fleet: Fleet, result: Result) -> None:
    """The honest robot's trials, all along: filed means stored, once."""
    program = fleet.control[WORKER]
    program.terminate()
    program.ended()
    deadline = time.monotonic() + 90
    while fleet.spooled(WORKER) and time.monotonic() < deadline:
        time.sleep(0.2)
    if fleet.spooled(WORKER):
        result.fail(f"{len(fleet.spooled(WORKER))} honest trials did not reach ingest within 90 s after the last attack")
    promised = filed(fleet)
    places = [place for place in read_all(fleet.folder / "ingest" / "log") if place.trial[0] == WORKER]
    stored = {place.trial for place in places}
    result.published, result.stored = len(promised | stored), len(stored)
    result.lost, result.duplicates = len(promised - stored), len(places) - len(stored)
    if not promised:
        result.fail("the honest robot filed no trial while others were attacked")
