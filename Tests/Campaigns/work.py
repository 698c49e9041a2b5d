"""Keeps robots at work: orders for every robot whose queue runs low, whatever is up or down at the moment."""

from __future__ import annotations

import threading

from fleet import Fleet
from messages import Channel, RpcError, schema

_ORDER_TRIALS = 6
# Above what an agent that lives needs, below what a dead one may cost the others.
_ANSWER_SECONDS = 1.0
_TASK = "synthetic"
_OUT = {schema.ROBOT_STATE_UNHEALTHY, schema.ROBOT_STATE_STOPPED}


class Work(threading.Thread):
    """A thread of its own, with a channel of its own to each agent; ends with `stop`."""

    def __init__(self, fleet: Fleet, robots: list[str]):
        super().__init__(daemon=True)
        self._robots = robots
        self._fleet, self._ending, self._order = fleet, threading.Event(), 0
        self._has_model = False
        self.orders = 0
        self.resumed = 0

    def release_model(self) -> None:
        """Half of the orders are for the policy from now on."""
        self._has_model = True

    def stop(self) -> None:
        self._ending.set()
        self.join(30)

    def run(self) -> None:
        channels = {robot: Channel(self._fleet.agent_socket(robot)) for robot in self._robots}
        monitor = Channel(self._fleet.socket("monitor.rpc"))
        while not self._ending.wait(0.25):
            for robot, channel in channels.items():
                try:
                    self._look_after(robot, channel, monitor)
                except RpcError:
                    continue  # Down, or failing: the next round asks again.
        for channel in [*channels.values(), monitor]:
            channel.close()

    def _look_after(self, robot: str, channel: Channel, monitor: Channel) -> None:
        data = channel.unary("fleetloop.v1.RobotService/GetStatus", b"", timeout=_ANSWER_SECONDS)
        status = schema.RobotStatus.FromString(data)
        if status.heartbeat.state in _OUT:
            request = schema.ResumeRobotRequest(robot=robot)
            monitor.unary("fleetloop.v1.MonitorService/ResumeRobot", request.SerializeToString(), _ANSWER_SECONDS)
            channel.unary("fleetloop.v1.RobotService/Resume", b"", timeout=_ANSWER_SECONDS)
            self.resumed += 1
        if status.waiting < _ORDER_TRIALS:
            self._order += 1
            policy = self._has_model and self._order % 2 == 0
            first = self._order * _ORDER_TRIALS
            order = schema.WorkOrder(
                order_id=f"campaign-{self._order}",
                task=_TASK,
                mode=schema.CONTROL_MODE_POLICY if policy else schema.CONTROL_MODE_DEMONSTRATION,
                seeds=range(first, first + _ORDER_TRIALS),
                max_steps=100,
            )
            channel.unary("fleetloop.v1.RobotService/Enqueue", order.SerializeToString(), timeout=_ANSWER_SECONDS)
            self.orders += 1
