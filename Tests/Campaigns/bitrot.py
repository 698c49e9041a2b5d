"""Flipped bits in acknowledged trials: each costs that trial, is reported by name, and costs nothing else."""

from __future__ import annotations

import collections
import random

import damage
from fleet import Fleet
from messages import Channel, RpcError, ask, schema
from report import Result, say
from triallog import Place, Trial, files, is_sealed, read_all

_FLIPS = 4


def run(fleet: Fleet, chance: random.Random, result: Result) -> None:
    """Stops ingest, damages trials in sealed files and in the active one, starts it, and looks what is gone."""
    ingest, log = fleet.services["ingest"], fleet.folder / "ingest" / "log"
    # What is torn is reported too, under the names of trials that their robots still had: those are not meant here.
    before = {_place(found) for found in _damages(fleet)}
    ingest.kill()
    ingest.ended()
    places = read_all(log)
    victims = _choose(places, files(log)[-1], chance)
    broken = set()
    for place in victims:
        result.faults += 1
        in_records = chance.random() < 0.75
        if in_records:
            broken.add(place.trial)
        say(f"flipped a bit of {damage.flip_bit(place, in_records, chance)}")
    ingest.start()
    ingest.wait_ready()
    chosen = {place.trial for place in victims}
    kept = {place.trial for place in places} - chosen
    readable = _readable(fleet, sorted(kept | chosen))
    gone = kept - readable
    if gone:
        result.lost += len(gone)
        result.fail(f"{len(victims)} flipped bits cost {len(gone)} other trials, e.g. {sorted(gone)[0]}")
    # A head holds times and lengths beside the trial: who can do without them may still give the trial.
    if broken & readable:
        result.fail(f"ingest gives damaged trials out as if they were whole: {sorted(broken & readable)}")
    damages = [found for found in _damages(fleet) if _place(found) not in before]
    reported = {(trial.robot, trial.trial_id) for found in damages for trial in found.lost}
    unnamed = sum(found.lost_unnamed for found in damages)
    if reported != chosen - readable or unnamed:
        result.fail(
            f"ingest reports {sorted(reported)} and {unnamed} unnamed trials as lost; {sorted(chosen - readable)} are"
        )
    twice = [trial for trial, count in collections.Counter(place.trial for place in read_all(log)).items() if count > 1]
    if twice:
        result.duplicates += len(twice)
        result.fail(f"after the repair {len(twice)} trials stand in the log twice")
    say(f"{len(victims)} trials damaged, {len(readable & kept)} of {len(kept)} others readable, {len(reported)} reported")


def _damages(fleet: Fleet) -> list:
    """What ingest says of damage in its log."""
    statistics = ask(
        fleet.socket("ingest.rpc"), "IngestService/GetStatistics", schema.GetIngestStatisticsRequest(),
        schema.IngestStatistics,
    )  # fmt: skip
    return list(statistics.damages)


def _place(found) -> tuple[str, int, int]:
    return found.file, found.offset, found.detected_unix_nanos


def _choose(places: list[Place], active, chance: random.Random) -> list[Place]:
    """Some in sealed files, and one in the midst of the active file, so that good ones follow it."""
    sealed = [place for place in places if place.file != active or is_sealed(active)]
    last = [place for place in places if place.file == active and not is_sealed(active)]
    victims = chance.sample(sealed, min(_FLIPS - 1, len(sealed)))
    if len(last) >= 3:
        victims.append(chance.choice(last[:-1]))
    return victims


def _readable(fleet: Fleet, trials: list[Trial]) -> set[Trial]:
    """Those that ingest gives out whole, each under its own name."""
    channel, found = Channel(fleet.socket("ingest.rpc")), set()
    for robot, trial in trials:
        request = schema.GetTrialRequest(robot=robot, trial_id=trial).SerializeToString()
        try:
            with channel.stream("fleetloop.v1.IngestService/GetTrial", timeout=30) as call:
                call.send(request, last=True)
                events = [schema.TrialEvent.FromString(data) for data in call]
        except RpcError:
            continue
        whole = bool(events) and events[0].HasField("header") and events[-1].HasField("end")
        if whole and all((event.robot, event.trial_id) == (robot, trial) for event in events):
            found.add((robot, trial))
    channel.close()
    return found
