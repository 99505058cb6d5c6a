"""A strict counterpart of EC2 without disks, and drivers that ask it without patience."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from drivers.base import CreateRequest, Tags
from drivers.ebs.controller import EbsController
from drivers.ebs.settings import EbsSettings
from polly_mesos.testing.ec2 import Ec2
from polly_mesos.testing.ec2.wire import Wire

GIB = 1 << 30
CLUSTER = "test"


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire("us-east-1") as wire:
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
