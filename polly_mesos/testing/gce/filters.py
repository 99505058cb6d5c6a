"""The filter expressions of lists, as far as the counterpart understands them; all else is refused.

``name = "x" AND labels.team = storage AND status != DONE``, with ``:*`` for a field that is there at all
(https://cloud.google.com/sdk/gcloud/reference/topic/filters and the parameter ``filter`` in the discovery document).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from polly_mesos.model import Json
from polly_mesos.testing.gce.errors import invalid

_TERM = re.compile(
    r"\(?\s*(?P<field>[A-Za-z][\w.-]*)\s*(?P<operator>=|!=|:)\s*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[\w./*-]+))\s*\)?'
)


def parse_filter(text: str) -> Callable[[Json], bool]:
    """Whether a resource is meant.

    :raises ApiError: the expression is not one, or not one that is understood here
    """
    terms = [_parse_term(part, text) for part in re.split(r"\s+AND\s+", text.strip())] if text.strip() else []
    return lambda resource: all(term(resource) for term in terms)


def _parse_term(part: str, whole: str) -> Callable[[Json], bool]:
    match = _TERM.fullmatch(part.strip())
    if match is None or part.count("(") != part.count(")"):
        raise invalid(
            f"Invalid value for field 'filter': '{whole}'. Invalid list filter expression.", location="filter"
        )
    field, operator = match["field"], match["operator"]
    wanted = match["bare"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
    if operator == ":":
        if wanted != "*":
            raise invalid(f"Invalid value for field 'filter': '{whole}'. Only :* is known here.", location="filter")
        return lambda resource: _value(resource, field) is not None
    return lambda resource: (str(_value(resource, field)) == wanted) == (operator == "=")


def _value(resource: Json, field: str) -> Any:
    found: Any = resource
    for name in field.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
