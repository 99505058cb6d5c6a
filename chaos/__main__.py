"""``python -m chaos --seed 1 --faults 500``: run a fault campaign, and print its table.

Exit status 0 where nothing was violated, 1 where something was (the directory with the logs is kept and named), 2 for a
wrong command line, 3 where the campaign could not run.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from chaos.campaign import Campaign
from chaos.plan import Kind
from chaos.report import Outcome, write_docs
from polly_mesos.errors import PollyError

_DOCS = Path(__file__).parent.parent / "docs" / "chaos.md"
_VIOLATED, _FAILED = 1, 3
_ENDING = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Run, print, and tell by the exit status whether all held."""
    arguments = _parser().parse_args()
    console = Console(soft_wrap=True, highlight=False, markup=False)
    directory = _directory(arguments.dir)
    logging.basicConfig(
        filename=directory / "campaign.log", level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    for noisy in ("httpx", "httpcore", "alembic", "kazoo"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for number in _ENDING:
        signal.signal(number, _interrupt)
    kinds = {Kind[name] for name in arguments.kinds} if arguments.kinds else None
    campaign = Campaign(directory, arguments.seed, kinds=kinds, tell=console.print)
    console.print(f"seed {arguments.seed}; everything is in {directory}")
    console.print(f"{campaign.stage.storage.reason} Faults: {', '.join(sorted(campaign.kinds))}")
    try:
        outcome = campaign.run(faults=arguments.faults, rounds=arguments.rounds)
    except KeyboardInterrupt:
        console.print(f"interrupted; the logs are in {directory}")
        return _FAILED
    except PollyError as error:
        console.print(f"the campaign could not run: {error}\nthe logs are in {directory}")
        return _FAILED
    _show(console, outcome)
    if outcome.violations:
        console.print(f"repeat it with: make chaos SEED={outcome.seed} ROUNDS={outcome.rounds}; its logs: {directory}")
        return _VIOLATED
    if arguments.write_docs:
        write_docs(_DOCS, outcome)
        console.print(f"written into {_DOCS}")
    if not arguments.keep:
        shutil.rmtree(directory)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description="A fault campaign on a real Mesos on this machine.")
    parser.add_argument("--seed", type=int, default=1, help="decides all faults (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=0, help="how many; goes before --faults")
    parser.add_argument("--faults", type=int, default=500, help="as many rounds as have so many (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=[kind.name for kind in Kind], help="only these faults")
    parser.add_argument("--dir", type=Path, help="an empty directory to use (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the directory also where nothing was violated")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/chaos.md")
    return parser


def _directory(wanted: Path | None) -> Path:
    if wanted is None:
        wanted = Path(tempfile.mkdtemp(prefix="polly-chaos-"))
    wanted.mkdir(parents=True, exist_ok=True)
    if any(wanted.iterdir()):
        sys.exit(f"{wanted} is not empty")
    wanted.chmod(0o755)  # tasks of other users reach their sandboxes
    return wanted.resolve()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the campaign; what it has started is ended too, and that is not to be interrupted."""
    for known in _ENDING:
        signal.signal(known, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show(console: Console, outcome: Outcome) -> None:
    table = Table(title=f"Fault campaign, seed {outcome.seed}", show_header=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    for name, figure in outcome.rows():
        table.add_row(name, figure)
    console.print(table)
    for violation in outcome.violations:
        console.print(f"VIOLATION in {violation}")


if __name__ == "__main__":
    sys.exit(main())
