"""How every command prints: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_option(command: Command) -> Command:
    """``--format table|json``."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people or for programs.",
    )(command)


def human_size(size: float) -> str:
    """Bytes as people read them: 1536 -> 1.5 KiB."""
    for unit in _UNITS:
        if abs(size) < 1024 or unit == _UNITS[-1]:
            return f"{size:.4g} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def show(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], output: str, *, empty: str) -> None:
    """Print records.

    :param columns: key of the record -> heading; JSON has all keys
    :param empty: what to say where there is no record
    """
    if output == "json":
        click.echo(json.dumps(list(rows), indent=2, default=str))
        return
    if not rows:
        click.echo(empty)
        return
    table = Table(*columns.values(), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(key, row.get(key)) for key in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _cell(key: str, value: Any) -> str:
    if value is None or value in ("", {}, []):
        return "-"
    if isinstance(value, int) and key in _SIZES:
        return human_size(value)
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_cell(key, item)}" for name, item in value.items())
    return str(value)


_SIZES = {"size", "backed", "capacity", "leased", "reserved", "unbacked", "volumes", "free", "leases"}
