"""What Mesos is told a CREATE_DISK or DESTROY_DISK has made."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from polly_mesos.agent_api import Verdict
from polly_mesos.mesos.provider.journal import sound_answer

OPERATION = UUID("7f6f2c1e-0d4b-4b57-9c35-2f3b6b1c7a11")
STATUS = "0d5f2d3e-5b0a-4a3f-8b67-5f6a0c9e1d22"
ALLOCATION = {"role": "test"}


def disk(kind: str, **fields: Any) -> dict[str, Any]:
    source = {"type": kind, "profile": "gold", "vendor": "polly.gold", **fields}
    return {"name": "disk", "type": "SCALAR", "scalar": {"value": 64.0}, "disk": {"source": source}}


RAW, MOUNT = disk("RAW"), disk("MOUNT", id="v1", mount={"root": "/polly/gold"})


@pytest.mark.parametrize(("kind", "source", "made"), [("create_disk", RAW, MOUNT), ("destroy_disk", MOUNT, RAW)])
def test_a_converted_disk_is_allocated_to_whom_its_source_was(
    kind: str, source: dict[str, Any], made: dict[str, Any]
) -> None:
    body = {"source": {**source, "allocation_info": ALLOCATION}, "target_type": "MOUNT"}
    info = {"type": kind.upper(), kind: body}
    verdict = Verdict(str(OPERATION), "OPERATION_FINISHED", STATUS, info, converted=(made,))
    (converted,) = sound_answer(OPERATION, info, verdict, "provider-1").converted
    assert converted["allocation_info"] == ALLOCATION
    assert converted["disk"]["source"]["type"] == made["disk"]["source"]["type"]


def test_a_disk_that_was_not_allocated_is_converted_into_one_that_is_not() -> None:
    info = {"type": "CREATE_DISK", "create_disk": {"source": RAW, "target_type": "MOUNT"}}
    verdict = Verdict(str(OPERATION), "OPERATION_FINISHED", STATUS, info, converted=(MOUNT,))
    (converted,) = sound_answer(OPERATION, info, verdict, "provider-1").converted
    assert "allocation_info" not in converted
