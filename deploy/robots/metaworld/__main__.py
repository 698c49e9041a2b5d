"""A simulated Meta-World robot: `python deploy/robots/metaworld --agent ENDPOINT --robot NAME`."""

from __future__ import annotations

import pathlib
import sys

# Last, so that nothing beside this folder hides an installed package.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))

import renderer  # noqa: E402

renderer.prepare()

import controlprogram  # noqa: E402
import check  # noqa: E402
from simulation import MetaWorldRobot  # noqa: E402


def main() -> int:
    parser = controlprogram.argument_parser("Control program of a simulated Meta-World robot.")
    parser.add_argument("--randomize", type=float, default=0.0, metavar="S", help="domain randomisation, 0 to 1 (0)")
    parser.add_argument("--environments", type=int, default=2, metavar="N", help="environments kept in memory (2)")
    parser.add_argument("--check", action="store_true", help="run the experts without an agent, print figures, end")
    parser.add_argument("--tasks", default=",".join(check.EASY_TASKS), help="with --check: comma separated")
    parser.add_argument("--trials", type=int, default=10, help="with --check: per task (10)")
    parser.add_argument("--max-steps", type=int, default=200, help="with --check: per trial (200)")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="with --check")
    arguments = parser.parse_args()
    if not 0 <= arguments.randomize <= 1 or arguments.environments < 1:
        parser.error("--randomize is in [0, 1] and --environments at least 1")
    robot = MetaWorldRobot(arguments.randomize, arguments.environments)
    try:
        if arguments.check:
            options = dict(option.split("=", 1) for option in arguments.option)
            check.run(robot, arguments.tasks.split(","), arguments.trials, arguments.max_steps, options)
            return 0
        return controlprogram.run(robot, arguments)
    finally:
        robot.close()


if __name__ == "__main__":
    sys.exit(main())
