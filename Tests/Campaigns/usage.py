"""The options of the campaigns. Needs nothing but Python, so that wrong usage is told before anything is set up."""

from __future__ import annotations

import argparse
import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[2]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(64)


def parse(words: list[str]) -> argparse.Namespace:
    """`campaign`, `minutes`, `seed` (None for a random one), `binaries`, `kills`, `only`. Wrong usage ends it with status 64."""
    parser = _Parser(prog="deploy/test", description="Campaigns against the real processes.")
    campaigns = parser.add_subparsers(dest="campaign", required=True, parser_class=_Parser)
    for name in ("faults", "hostile"):
        options = campaigns.add_parser(name)
        options.add_argument("--minutes", type=_between(0.1, 10_000, float), default=8.0, help="about how long (8)")
        options.add_argument("--seed", type=_between(0, 2**63, int), help="everything random follows from it")
        options.add_argument(
            "--binaries", type=pathlib.Path, default=_ROOT / ".build/debug", help="folder of the executables"
        )
    kills = _between(1, 1_000_000, int)
    campaigns.choices["faults"].add_argument("--kills", type=kills, default=500, help="kill -9 in all (500)")
    campaigns.choices["hostile"].add_argument("--only", default="", help="attacks whose names hold this text")
    return parser.parse_args(words)


def _between(low: float, high: float, kind: type):
    def parse_number(text: str):
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    parse_number.__name__ = "number"
    return parse_number


if __name__ == "__main__":
    parse(sys.argv[1:])
