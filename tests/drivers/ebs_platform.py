"""A strict counterpart of EC2 without disks, and drivers that ask it without patience."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import create_loader

from drivers.base import CreateRequest, Tags
from drivers.ebs.controller import EbsController
from drivers.ebs.settings import EbsSettings
from polly_mesos.testing.ec2 import Ec2
from polly_mesos.testing.ec2.wire import Wire

GIB = 1 << 30
CLUSTER = "test"
EXAMPLE = Path(__file__).parents[2] / "examples/ebs-iam-policy.json"


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """moto, and an SDK that reads its description of EC2 once and not for each client."""
    loader = create_loader()
    with pytest.MonkeyPatch.context() as patch, Wire("us-east-1") as wire:
        patch.setattr("botocore.session.create_loader", lambda *paths: loader)
        yield wire


@pytest.fixture
def ec2(wire: Wire) -> Iterator[Ec2]:
    with Ec2(wire=wire) as ec2:
        yield ec2


def controller(ec2: Ec2, cluster: str = CLUSTER, **changes: Any) -> EbsController:
    quick = {"status_first_delay": 0.01, "status_timeout": 5.0, "consistency_timeout": 0.01}
    quick |= {"requests_per_second": 1000.0}
    known = {field.name for field in dataclasses.fields(EbsSettings)}
    settings = {name: value for name, value in ec2.settings.items() if name in known}
    return EbsController(EbsSettings(**{**settings, **quick, **changes}), cluster)


def request(size: int = 1, **changes: Any) -> CreateRequest:
    token = str(uuid.uuid4())
    return dataclasses.replace(CreateRequest(token, size * GIB, Tags(CLUSTER, token, "gold")), **changes)


def example(cluster: str = CLUSTER, *, without: str = "") -> dict[str, Any]:
    """The example's policy document for a cluster.

    :param without: an action that is left out, or the name of a statement and an action with a colon between
    """
    document: dict[str, Any] = json.loads(EXAMPLE.read_text().replace('"production"', f'"{cluster}"'))
    kept = []
    for statement in document["Statement"]:
        written = statement["Action"]
        actions = [written] if isinstance(written, str) else written
        left = [action for action in actions if without not in (action, f"{statement['Sid']}:{action}")]
        if left:
            kept.append({**statement, "Action": left})
    return {**document, "Statement": kept}


def actions() -> list[str]:
    """Every action of the example's policy with the name of its statement, as ``Look:ec2:DescribeVolumes``."""
    written = [(statement["Sid"], statement["Action"]) for statement in example()["Statement"]]
    return [f"{name}:{action}" for name, each in written for action in each]
