"""`deploy/test faults`: a working fleet under kill -9, failing disks and torn and damaged logs loses nothing."""

from __future__ import annotations

import pathlib
import random
import time

import bitrot
from chaos import Chaos
from fleet import Fleet
from messages import RpcError, ask, schema
from programs import CampaignError
from records import Acknowledgements, filed
from report import Result, say
from triallog import Trial, read_all
from work import Work

_ROBOTS = 3
# Small files, so that many are sealed in a campaign.
_SETTINGS = {"ingest.file-megabytes": "1", "log.level": "info"}
# Seconds in which the number of trials in spools must fall; the longest pause of a delivery is 60.
_PROGRESS_SECONDS = 120.0
# Trials that must have been stored for each kill: else the load did not go on between the kills.
_TRIALS_A_KILL = 1.0


def run(binaries: pathlib.Path, kills: int, minutes: float, seed: int) -> int:
    """The whole campaign. Returns the exit status."""
    result, chance = Result("faults", seed), random.Random(seed)
    say(f"faults: seed {seed}, {kills} kills over about {minutes:g} minutes, binaries in {binaries}")
    with Fleet(binaries, _ROBOTS, _SETTINGS) as fleet:
        try:
            _run(fleet, kills, minutes, chance, result)
        except (CampaignError, RpcError) as error:
            result.fail(f"the campaign cannot go on: {error}")
    return result.end()


def _run(fleet: Fleet, kills: int, minutes: float, chance: random.Random, result: Result) -> None:
    fleet.start()
    acknowledged, work = Acknowledgements(fleet), Work(fleet, fleet.robots)
    acknowledged.start()
    work.start()
    _make_model(fleet, work)
    chaos = Chaos(fleet, chance, result, acknowledged)
    began = time.monotonic()
    chaos.run(kills, minutes * 60)
    seconds = time.monotonic() - began
    say(f"kills by victim: {', '.join(f'{name} {count}' for name, count in sorted(chaos.kills.items()))}")
    say(f"{work.orders} orders given, robots resumed {work.resumed} times")
    work.stop()
    chaos.end()
    _drain(fleet, chaos, result)
    acknowledged.stop()
    _judge(fleet, acknowledged, result)
    if result.stored < kills * _TRIALS_A_KILL:
        result.fail(f"{result.stored} trials in {seconds:.0f} s are too few: the load did not go on between kills")
    _check_fleet(fleet, result)
    bitrot.run(fleet, chance, result)


def _make_model(fleet: Fleet, work: Work) -> None:
    """A model on every robot, so that inference, rollout and training have something to lose."""
    deadline = time.monotonic() + 60
    while len(filed(fleet)) < 6:
        if time.monotonic() > deadline:
            raise CampaignError("the robots filed no trials within a minute; see deploy/robots/synthetic")
        time.sleep(0.1)
    fleet.operator("train", "start", "--version", "v1", "--seconds", "1", "--image-size", "64")
    fleet.operator("rollout", "release", "v1")
    work.release_model()
    say("v1 is trained and released; faults begin")


def _drain(fleet: Fleet, chaos: Chaos, result: Result) -> None:
    """Control programs end, then everything filed goes to ingest."""
    for program in fleet.control.values():
        program.terminate()
        program.ended()
    fleet.control = {}
    least, since = None, time.monotonic()
    while True:
        now = time.monotonic()
        chaos.tend(now)
        waiting = sum(len(fleet.spooled(robot)) for robot in fleet.robots)
        if least is None or waiting < least:
            least, since = waiting, now
        if waiting == 0:
            break
        if now - since > _PROGRESS_SECONDS:
            result.fail(f"{waiting} trials stay in the spools {_PROGRESS_SECONDS:.0f} s after the last fault")
            break
        time.sleep(0.2)
    say("no trial waits in a spool")


def _judge(fleet: Fleet, acknowledged: Acknowledgements, result: Result) -> None:
    """The log, read with the `mcap` package, against what robots and ingest said."""
    places = read_all(fleet.folder / "ingest" / "log")
    stored = {place.trial for place in places}
    promised = filed(fleet) | acknowledged.durable
    lost = promised - stored
    refused = {(robot, trial) for robot in fleet.robots for trial in fleet.refused(robot)}
    result.published, result.stored = len(promised | stored), len(stored)
    result.lost, result.duplicates = len(lost), len(places) - len(stored)
    if lost:
        result.fail(f"{len(lost)} trials are lost, {len(lost & refused)} of them refused: {sorted(lost)[:5]}")
    if result.duplicates:
        result.fail(f"{result.duplicates} trials stand in the log twice")
    listed = list_trials(fleet)
    catalog = set(listed)
    if catalog != stored or len(listed) != len(catalog):
        result.fail(
            f"the catalog lists {len(listed)} trials ({len(catalog - stored)} that the log lacks, "
            f"{len(stored - catalog)} fewer than it holds, {len(listed) - len(catalog)} twice)"
        )
    statistics = _statistics(fleet)
    if statistics.duplicates:
        result.fail(f"ingest reports {statistics.duplicates} trials that stand in the log twice")
    say(
        f"{len(promised)} trials were promised, {len(stored)} are stored, {statistics.redelivered} came again, "
        f"{statistics.damages_in_all} torn places were reported, {statistics.log_files} log files with {statistics.log_bytes >> 20} MiB"
    )


def list_trials(fleet: Fleet) -> list[Trial]:
    """Every trial of the catalog."""
    trials, token = [], ""
    while True:
        request = schema.ListTrialsRequest(
            query=schema.TrialQuery(include_quarantined=True), page_size=1000, page_token=token
        )
        page = ask(fleet.socket("ingest.rpc"), "IngestService/ListTrials", request, schema.ListTrialsResponse)
        trials += [(trial.header.robot, trial.header.trial_id) for trial in page.trials]
        token = page.next_page_token
        if not token:
            return trials


def _statistics(fleet: Fleet):
    return ask(
        fleet.socket("ingest.rpc"), "IngestService/GetStatistics", schema.GetIngestStatisticsRequest(),
        schema.IngestStatistics,
    )  # fmt: skip


def _check_fleet(fleet: Fleet, result: Result) -> None:
    """What the other services knew before the faults, they know after them."""
    models = fleet.operator("models")
    if "v1" not in models:
        result.fail(f"the registry lost model v1: {models}")
    deadline = time.monotonic() + 60
    for robot in fleet.robots:
        version = ""
        while version != "v1" and time.monotonic() < deadline:
            status = ask(
                fleet.agent_socket(robot), "RobotService/GetStatus", schema.GetRobotStatusRequest(), schema.RobotStatus
            )
            version = status.heartbeat.model_version
            time.sleep(0.1)
        if version != "v1":
            result.fail(f"{robot} holds model '{version}' where v1 is released")
