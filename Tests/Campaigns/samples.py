"""Valid messages for every socket: what honest peers send, for attacks to begin with."""

from __future__ import annotations

import time

from messages import schema

TASK = "synthetic"


def trial(robot: str, trial_id: str, steps: int, image: bytes, size: int, steps_an_event: int = 10) -> list:
    """The events of a demonstration with raw images of `size` x `size` pixels."""
    header = schema.TrialHeader(
        trial_id=trial_id, robot=robot, task=TASK, mode=schema.CONTROL_MODE_DEMONSTRATION, image_height=size,
        image_width=size, control_hertz=20, started_unix_nanos=time.time_ns(),
    )  # fmt: skip
    events = [schema.TrialEvent(robot=robot, trial_id=trial_id, number=0, header=header)]
    for first in range(0, steps, steps_an_event):
        run = schema.TrialSteps(
            steps=[
                schema.TrialStep(
                    index=index, elapsed_nanos=index * 50_000_000, joint_angles=[0.1] * 7, gripper=0.5,
                    action=[0.1, 0.1, 0.1, -0.1], expert_action=[0.1, 0.1, 0.1, -0.1], image=image,
                )
                for index in range(first, min(steps, first + steps_an_event))
            ]
        )  # fmt: skip
        events.append(schema.TrialEvent(robot=robot, trial_id=trial_id, number=len(events), steps=run))
    end = schema.TrialEnd(outcome=schema.OUTCOME_SUCCESS, steps=steps, ended_unix_nanos=time.time_ns())
    events.append(schema.TrialEvent(robot=robot, trial_id=trial_id, number=len(events), end=end))
    return events


def requests(robot: str) -> dict[str, list[tuple[str, object]]]:
    """By the setting that names the socket: methods without "fleetloop.v1.", each with a valid request."""
    observation = schema.Observation(
        robot=robot, trial_id="t", task=TASK, image=bytes(64 * 64 * 3), image_height=64, image_width=64,
        joint_angles=[0.1] * 7,
    )  # fmt: skip
    event = trial(robot, "hostile-1", 2, bytes(48 * 48 * 3), 48)[1]
    start = schema.StartTrial(task=TASK, image_height=64, image_width=64)
    query = schema.TrialQuery(robots=[robot])
    return {
        "ingest.rpc": [
            ("IngestService/Upload", event),
            ("IngestService/ListTrials", schema.ListTrialsRequest(query=query, page_size=10, page_token="3")),
            ("IngestService/GetTrial", schema.GetTrialRequest(robot=robot, trial_id="hostile-1")),
            ("IngestService/CreateSnapshot", schema.CreateSnapshotRequest(query=query)),
            ("IngestService/ReadTrials", schema.ReadTrialsRequest(snapshot_id="none")),
            ("IngestService/SummarizeOutcomes", schema.SummarizeOutcomesRequest(query=query)),
            ("IngestService/GetStatistics", schema.GetIngestStatisticsRequest()),
        ],
        "training.rpc": [
            ("TrainingService/GetJob", schema.GetJobRequest(job_id="job-1")),
            ("TrainingService/CancelJob", schema.CancelJobRequest(job_id="job-9")),
            ("TrainingService/ListJobs", schema.ListJobsRequest()),
            ("TrainingService/WatchJob", schema.GetJobRequest(job_id="job-1")),
            ("TrainingService/StartTraining", schema.StartTrainingRequest(version="h1", parent="none")),
        ],
        "inference.rpc": [
            ("InferenceService/Act", schema.ActRequest(request_id=1, observation=observation)),
            ("InferenceService/Predict", schema.ActRequest(request_id=1, observation=observation, budget_micros=1)),
            ("InferenceService/Prepare", schema.PrepareRequest(version="v1")),
            ("InferenceService/GetStatus", schema.GetInferenceStatusRequest()),
        ],
        "monitor.rpc": [
            ("MonitorService/ListRobots", schema.ListRobotsRequest()),
            ("MonitorService/ListAlerts", schema.ListAlertsRequest()),
            ("MonitorService/AcknowledgeAlert", schema.AcknowledgeAlertRequest(alert_id="a")),
            ("MonitorService/WatchAlerts", schema.WatchAlertsRequest()),
            ("MonitorService/WatchRelease", schema.WatchReleaseRequest()),
        ],
        "rollout.rpc": [
            ("RolloutService/ReportVersion", schema.ReportVersionRequest(robot="robot-hostile")),
            ("RolloutService/GetDesiredVersion", schema.GetDesiredVersionRequest(robot="robot-hostile")),
            ("RolloutService/ListReleases", schema.ListReleasesRequest()),
            ("RolloutService/GetFleetVersions", schema.GetFleetVersionsRequest()),
            ("ModelRegistryService/GetModel", schema.GetModelRequest(version="v1")),
            ("ModelRegistryService/ListModels", schema.ListModelsRequest()),
            ("ModelRegistryService/RegisterModel", schema.ModelChunk()),
        ],
        "robot.rpc": [
            ("RobotService/GetStatus", schema.GetRobotStatusRequest()),
            ("RobotService/NextWork", schema.NextWorkRequest(wait_millis=50)),
            ("RobotService/Control", schema.ControlRequest(start=start)),
            ("RobotService/Enqueue", schema.WorkOrder(order_id="h", task=TASK, seeds=[1], max_steps=3)),
            ("RobotService/CancelWork", schema.CancelWorkRequest(order_id="h")),
        ],
    }  # fmt: skip


def telemetry(robot: str):
    heartbeat = schema.Heartbeat(
        robot=robot, state=schema.ROBOT_STATE_IDLE, model_version="v1", desired_generation=2**64 - 1, steps=2**64 - 1,
        sent_unix_nanos=time.time_ns(),
    )  # fmt: skip
    return schema.TelemetryEvent(heartbeat=heartbeat)


def published(topic: str, publisher: str, message) -> list[bytes]:
    """A ZeroMQ message as the bus publishes it."""
    envelope = schema.TopicEnvelope(publisher=publisher, sequence=1, unix_nanos=time.time_ns(), session=7)
    return [topic.encode(), envelope.SerializeToString(), message.SerializeToString()]


def opening(call: int, method: str, message: bytes | None, half_close: bool = True, **fields) -> list[bytes]:
    """The frames that open a call. `method`: full name."""
    frame = schema.CallFrame(
        kind=schema.CallFrame.KIND_OPEN, call_id=call, method=method, has_message=message is not None,
        half_close=half_close, **fields,
    )  # fmt: skip
    return [frame.SerializeToString(), *([] if message is None else [message])]
