"""A driver's rate beside its platform's bare SDK doing the same calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable


def compare(
    what: str, ours: Callable[[], None], bare: Callable[[], None], *, rounds: int, repeats: int
) -> tuple[str, float, float, float]:
    """How often each can be done in a second, in its best round, and our rate through the other."""
    best = {ours: float("inf"), bare: float("inf")}
    for _ in range(rounds):
        for step in best:
            start = time.perf_counter()
            for _ in range(repeats):
                step()
            best[step] = min(best[step], (time.perf_counter() - start) / repeats)
    return what, 1 / best[ours], 1 / best[bare], best[bare] / best[ours]


def show(rows: Iterable[tuple[str, float, float, float]]) -> None:
    """Print the figures."""
    for name, ours, bare, ratio in rows:
        print(f"{name:40} {ours:9.1f}/s   bare SDK {bare:9.1f}/s   ratio {ratio:.2f}")
