"""What is written on platform volumes is read again exactly, or known not to be known; every platform can take it."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from polly_mesos.model import MB, Volume, VolumeKind, VolumeState
from polly_mesos.scheduler.tags import LONGEST_VALUE, Origin, decode, encode, origin_of

MARATHON = Origin(
    kind=VolumeKind.PATH,
    size=256 * MB,
    agent="2f6bd1c2-9a4e-4d9e-8d0f-3f4f0a4d1c11-S1",
    node="10.0.0.7:5051",
    role="marathon",
    persistence_id="shop_db#data#6b0a9b4e-3c1f-11ee-be56-0242ac120002",
    framework="2f6bd1c2-9a4e-4d9e-8d0f-3f4f0a4d1c11-0001",
    owner=json.dumps(
        [
            {
                "labels": {
                    "labels": [
                        {"key": "marathon_framework_id", "value": "2f6bd1c2-9a4e-4d9e-8d0f-3f4f0a4d1c11-0001"},
                        {"key": "marathon_task_id", "value": "shop_db.instance-6b0a9b4e-3c1f-11ee-be56-0242ac120002"},
                    ]
                },
                "principal": "marathon",
                "role": "marathon",
                "type": "DYNAMIC",
            }
        ],
        sort_keys=True,
        separators=(",", ":"),
    ),
    persistence={
        "persistence": {"id": "shop_db#data#6b0a9b4e-3c1f-11ee-be56-0242ac120002", "principal": "marathon"},
        "volume": {"container_path": "data", "mode": "RW"},
    },
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
json_values = st.recursive(text | st.integers() | st.booleans(), lambda inner: st.dictionaries(text, inner, max_size=3))
origins = st.builds(
    Origin,
    kind=st.sampled_from(VolumeKind),
    size=st.integers(1, 2**63 - 1),
    agent=text,
    node=text,
    role=text,
    persistence_id=text,
    framework=text,
    owner=text,
    persistence=st.dictionaries(text, json_values, max_size=3),
)


def test_what_marathon_makes_is_read_again_exactly() -> None:
    tags = encode(MARATHON)
    assert decode(tags) == MARATHON
    assert tags["role"] == "marathon"
    assert tags["persistence-id"].startswith("shop_db=23data=236b0a")


def test_a_volumes_own_record_is_what_is_written() -> None:
    volume = Volume(
        id="v",
        pool="gold",
        profile="gold",
        service="local",
        kind=VolumeKind.PATH,
        size=MARATHON.size,
        state=VolumeState.CREATING,
        agent=MARATHON.agent,
        owner=MARATHON.owner or "",
        persistence_id=MARATHON.persistence_id,
        persistence=MARATHON.persistence or {},
        framework=MARATHON.framework,
    )
    assert origin_of(volume, MARATHON.node) == MARATHON


@given(origins)
def test_each_fact_is_read_again_or_known_to_be_unknown(origin: Origin) -> None:
    found = decode(encode(origin))
    assert found is not None
    if found.owner is not None:
        assert found == origin
        return
    assert found.persistence is None
    assert (found.kind, found.size) == (origin.kind, origin.size)
    for name in ("agent", "node", "role", "persistence_id", "framework"):
        assert getattr(found, name) in (getattr(origin, name), "")


@given(origins)
def test_every_platform_can_take_the_tags(origin: Origin) -> None:
    tags = encode(origin)
    assert len(tags) <= 12
    for key, value in tags.items():
        assert re.fullmatch(r"[a-z][a-z0-9-]{0,31}", key)
        assert re.fullmatch(r"[A-Za-z0-9+\-=._:/@]+", value)
        assert len(value) <= LONGEST_VALUE
    assert len(json.dumps(tags)) <= 2048


@given(origins, st.data())
def test_a_damaged_record_is_never_half_believed(origin: Origin, data: st.DataObject) -> None:
    """Somebody has changed or removed one of the record's tags in the platform's console."""
    tags = encode(origin)
    keys = [key for key in tags if key.startswith("record")]
    if not keys:
        return
    key = data.draw(st.sampled_from(keys))
    damaged = data.draw(st.sampled_from([None, tags[key][:-5], tags[key][::-1]]))
    spoiled = {**tags, key: damaged} if damaged is not None else {name: tags[name] for name in tags if name != key}
    found = decode({name: value for name, value in spoiled.items() if value})
    assert found is not None
    assert found == origin or found.owner is None


@given(st.dictionaries(st.sampled_from(["kind", "size", "role", "record", "record-2"]) | text, text))
def test_tags_that_others_wrote_are_no_error(tags: dict[str, str]) -> None:
    found = decode(tags)
    assert found is None or found.kind in VolumeKind


def test_tags_of_an_older_polly_say_nothing() -> None:
    assert decode({}) is None
