"""A policy document of IAM, judged statement by statement: Action, Resource and Condition.

Source: the IAM user guide, "Policy evaluation logic", "IAM JSON policy elements: Condition operators" and "Condition
operators with multiple context keys or values". What is not written down here is not ignored: it is an error.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Context = Mapping[str, tuple[str, ...]]
"""What a request says of itself and of what it is about: condition key -> values."""

_KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition"}


@dataclass(frozen=True, slots=True)
class Need:
    """One permission that a request needs.

    :param resource: an ARN, or ``*`` for an action that knows no resources
    """

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.action} on resource: {self.resource}"


class Policy:
    """One policy of one identity.

    :raises ValueError: the document has an element or an operator that is not known here
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._statements = tuple(document["Statement"])
        for statement in self._statements:
            if unknown := set(statement) - _KNOWN:
                raise ValueError(f"the elements {sorted(unknown)} of a statement are not known here")
            for operator in statement.get("Condition", {}):
                _operator(operator)

    @classmethod
    def allowing(cls, *actions: str) -> Policy:
        """Of these actions on everything."""
        return cls({"Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]})

    def allows(self, need: Need) -> bool:
        """Whether a statement allows it and none denies it."""
        effects = {statement["Effect"] for statement in self._statements if _fits(statement, need)}
        return effects == {"Allow"}


def _fits(statement: Mapping[str, Any], need: Need) -> bool:
    return (
        any(_like(pattern.lower(), need.action.lower()) for pattern in _several(statement["Action"]))
        and any(_like(pattern, need.resource) for pattern in _several(statement["Resource"]))
        and all(
            _operator(operator)(need.context.get(key), _several(wanted))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _several(written: str | Iterable[str]) -> tuple[str, ...]:
    return (written,) if isinstance(written, str) else tuple(written)


@functools.cache
def _pattern(written: str) -> re.Pattern[str]:
    return re.compile(re.escape(written).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _like(pattern: str, text: str) -> bool:
    return _pattern(pattern).fullmatch(text) is not None


def _equals(wanted: str, found: str) -> bool:
    return wanted == found


_MATCHES: dict[str, Callable[[str, str], bool]] = {"StringEquals": _equals, "StringLike": _like, "Bool": _equals}


def _operator(written: str) -> Callable[[tuple[str, ...] | None, tuple[str, ...]], bool]:
    quantifier, _, name = written.rpartition(":")
    if written == "Null":
        return lambda found, wanted: ("false" if found else "true") in wanted
    if name not in _MATCHES or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise ValueError(f"condition operator {written!r} is not known here")
    matches = _MATCHES[name]

    def judge(found: tuple[str, ...] | None, wanted: tuple[str, ...]) -> bool:
        passed = [any(matches(one, value) for one in wanted) for value in found or ()]
        return all(passed) if quantifier == "ForAllValues" else any(passed)

    return judge
