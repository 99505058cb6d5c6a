"""Many who ask for one thing each, and one call for them all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Found = TypeVar("Found")

MOST_KEYS = 200
"""The values that EC2 takes in the filters of one call."""


class Batch(Generic[Found]):
    """While one call is under way, those who come wait for the next, which asks for all of them.

    Who comes alone is served at once.

    :param look: finds what it can of these keys
    :param most: keys in one call
    """

    def __init__(self, look: Callable[[Sequence[str]], Mapping[str, Found]], most: int = MOST_KEYS) -> None:
        self._look = look
        self._most = most
        self._waiting: list[tuple[str, Future[Found | None]]] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def get(self, key: str) -> Found | None:
        """What was found of a key, looked for after this call began; None where there is nothing."""
        answer: Future[Found | None] = Future()
        with self._lock:
            self._waiting.append((key, answer))
        while not answer.done():
            with self._turn:
                if not answer.done():
                    self._ask()
        return answer.result()

    def _ask(self) -> None:
        with self._lock:
            asked, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            found = self._look(list(dict.fromkeys(key for key, _ in asked)))
        except BaseException as error:  # noqa: BLE001 - it is raised in every thread that waits for this call
            for _, answer in asked:
                answer.set_exception(error)
        else:
            for key, answer in asked:
                answer.set_result(found.get(key))
