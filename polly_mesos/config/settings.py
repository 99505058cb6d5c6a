"""The sections of polly.yml as types. What needs more than one value to judge is judged in :mod:`.checks`."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from polly_mesos.config.quantities import Mistake, parse_duration, parse_size
from polly_mesos.model import MB, Filesystem, Offering, Reclaim

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
"""Names of clusters, services, profiles and zones: they become parts of paths, tags and host names."""

LONGEST_NAME = 63

_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_name(text: str) -> str:
    """A name as it is.

    :raises Mistake: it is not allowed
    """
    if len(text) > LONGEST_NAME:
        raise Mistake(f"is longer than {LONGEST_NAME} characters", "choose a shorter name")
    if not NAME.fullmatch(text):
        raise Mistake(
            "is not an allowed name",
            "use small letters, digits and hyphens, beginning and ending with a letter or digit",
        )
    return text


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 host stands in brackets.

    :raises Mistake: it is not an address with a port
    """
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise Mistake("is not an address with a port", "write HOST:PORT, as 127.0.0.1:7979")
    return match[1].strip("[]"), int(match[2])


def _check_address(text: str) -> str:
    split_address(text)
    return text


def _check_zone(text: str) -> str:
    """Platforms name their zones; the name becomes a part of paths."""
    if text and not _ZONE.fullmatch(text):
        raise Mistake(
            "is not a zone's name",
            "use letters, digits, hyphens, dots and underscores, at most 63, a letter or digit first",
        )
    return text


def _check_url(text: str) -> str:
    if not text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Mistake("is not a URL", "write http://HOST:PORT")
    return text.rstrip("/")


def _check_master(text: str) -> str:
    if text.startswith("zk://"):
        if not re.fullmatch(r"zk://([^@/\s]+@)?[^@/\s]+:\d+(,[^@/\s]+:\d+)*/\S+", text):
            raise Mistake("is not a ZooKeeper address", "write zk://HOST:2181,HOST:2181/mesos")
        return text
    try:
        split_address(text)
    except Mistake:
        raise Mistake("is not a Mesos master", "write HOST:5050 or zk://HOST:2181,HOST:2181/mesos") from None
    return text


def _check_role(text: str) -> str:
    """Mesos' own rules for role names (src/common/roles.cpp)."""
    if text != "*":
        for part in text.split("/"):
            if part in ("", ".", "..", "*") or part.startswith("-") or re.search(r"[\s\x00-\x1f\x7f\\]", part):
                raise Mistake("is not a role name", "write a name without spaces, as polly or storage/polly")
    return text


def _check_regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise Mistake(f"is not a regular expression: {error}", "see Python's re module") from None
    return text


Size = Annotated[int, BeforeValidator(parse_size)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
Url = Annotated[str, AfterValidator(_check_url)]
NotEmpty = Annotated[str, Field(min_length=1)]


class Settings(BaseModel):
    """Base of all sections: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class MesosSettings(Settings):
    """How Polly registers with Mesos.

    :param master: ``host:port`` or ``zk://...``, which may have ZooKeeper's user and password in it
    :param user: the user that executors run as, empty for the one that runs Polly
    :param secret: the principal's password, from ``secret_file`` or an environment reference
    :param failover_timeout: seconds that Mesos keeps Polly's executors while Polly is away
    """

    master: Annotated[str, AfterValidator(_check_master), Field(repr=False)]
    name: NotEmpty = "polly"
    role: Annotated[str, AfterValidator(_check_role)] = "polly"
    user: str = ""
    principal: str = ""
    secret: SecretStr | None = None
    secret_file: Path | None = None
    failover_timeout: Duration = 7 * 86400.0
    webui_url: Url = ""


class HttpSettings(Settings):
    """Where the scheduler half listens, and the URL under which agents reach it."""

    listen: Annotated[str, AfterValidator(_check_address)] = "127.0.0.1:7979"
    advertise: Url = ""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return split_address(self.listen)

    @property
    def url(self) -> str:
        """The URL that agents use."""
        return self.advertise or f"http://{self.listen}"


class LedgerSettings(Settings):
    """Where the ledger is; a relative path counts from polly.yml's directory.

    :param retention: seconds that finished operations, events and the rows of deleted volumes are kept
    """

    path: Path = Path("/var/lib/polly/ledger.db")
    retention: Annotated[Duration, Field(gt=0)] = 30 * 86400.0


class CheckSettings(Settings):
    """How Polly looks for differences between ledger, platforms, master and hosts by itself.

    :param interval: seconds between two looks, 0 for none
    """

    interval: Duration = 60.0


class Constraint(Settings):
    """One condition on the agents that Polly uses: a subject and exactly one test.

    :param attribute: name of the agent attribute that is tested
    :param hostname: true where the agent's host name is tested
    :param matches: regular expression that the whole text must match
    """

    attribute: NotEmpty | None = None
    hostname: Literal[True] | None = None
    equals: str | None = None
    one_of: tuple[str, ...] | None = Field(default=None, alias="in", min_length=1)
    matches: Annotated[str, AfterValidator(_check_regex)] | None = None

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if (self.attribute is None) == (self.hostname is None):
            raise Mistake("must test one thing", "write attribute: NAME or hostname: true")
        if sum(test is not None for test in (self.equals, self.one_of, self.matches)) != 1:
            raise Mistake("must have one test", "write equals: TEXT, in: [TEXT, TEXT] or matches: REGEX")
        return self

    def admits(self, hostname: str, attributes: Mapping[str, str]) -> bool:
        """Whether an agent fulfils it; an agent without the attribute does not."""
        value = hostname if self.hostname else attributes.get(self.attribute or "")
        if value is None:
            return False
        if self.equals is not None:
            return value == self.equals
        if self.one_of is not None:
            return value in self.one_of
        return re.fullmatch(self.matches or "", value) is not None


class Isolation(enum.StrEnum):
    """How executors are contained; AUTO takes what the agent offers."""

    AUTO = "auto"
    LINUX = "linux"
    POSIX = "posix"


class Fencing(enum.StrEnum):
    """Who says that a host cannot write any more: PLATFORM, which proves it, or an OPERATOR."""

    PLATFORM = "platform"
    OPERATOR = "operator"


class AgentSettings(Settings):
    """The executors and the agents that they run on.

    :param volume_root: absolute path below which volumes are mounted; may contain ``{hostname}`` and ``{port}``
    :param cpus: CPUs of one executor
    :param mem: bytes of memory of one executor
    :param python: Python 3.11 or later on the agents
    :param unpublish_grace: seconds that a volume stays mounted after its last task
    :param settle: seconds without operations before an agent's totals may be replaced
    :param fence_after: seconds that an agent must have been unreachable before its platforms are asked whether its host
        is stopped
    :param allow_scratch: whether tasks may use a pool's disk without making a volume
    """

    constraints: tuple[Constraint, ...] = ()
    volume_root: str = "/var/lib/polly/volumes"
    cpus: Annotated[float, Field(gt=0)] = 0.1
    mem: Size = 128 * MB
    python: NotEmpty = "python3"
    isolation: Isolation = Isolation.AUTO
    unpublish_grace: Duration = 10.0
    settle: Duration = 2.0
    fence_after: Duration = 60.0
    allow_scratch: bool = False

    @field_validator("volume_root")
    @classmethod
    def _check_volume_root(cls, text: str) -> str:
        if not text.startswith("/"):
            raise Mistake("is not an absolute path", "begin it with /")
        unknown = set(re.findall(r"\{[^}]*\}?", text)) - {"{hostname}", "{port}"}
        if unknown or text.count("{") != text.count("}"):
            raise Mistake("has an unknown placeholder", "use {hostname} and {port}")
        if ".." in text.split("/") or text.strip("/") == "":
            raise Mistake("is not a directory of Polly's own", "choose one as /var/lib/polly/volumes")
        return text.rstrip("/")

    def admits(self, hostname: str, attributes: Mapping[str, str]) -> bool:
        """Whether an agent fulfils every constraint."""
        return all(constraint.admits(hostname, attributes) for constraint in self.constraints)

    def root_on(self, hostname: str, port: int) -> str:
        """The volume root on one agent."""
        return self.volume_root.replace("{hostname}", hostname).replace("{port}", str(port))


class Policy(enum.StrEnum):
    """LEASE divides a pool strictly between the agents; SHARED shows all of it to each, and the ledger judges."""

    LEASE = "lease"
    SHARED = "shared"


class PlannerSettings(Settings):
    """How pools are divided between agents.

    :param interval: seconds between two plans
    :param rotate: seconds after which an unused big lease moves to the next agent
    :param big_share: the least part of a pool's free space that its big lease aims at
    :param low_water: the part of its target below which a lease is topped up
    """

    policy: Policy = Policy.LEASE
    interval: Annotated[Duration, Field(gt=0)] = 10.0
    rotate: Annotated[Duration, Field(gt=0)] = 300.0
    big_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    low_water: Annotated[float, Field(gt=0, le=0.5)] = 0.5


Zone = Annotated[str, AfterValidator(_check_zone)]


class ServiceSettings(Settings):
    """What every service has; the other keys are its driver's."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    driver: str
    capacity: Size | None = None
    fencing: Fencing | None = None
    tags: dict[str, str] = Field(default_factory=dict)


class ProfileSettings(Settings):
    """A profile as it is written; ``None`` where the default depends on the service.

    ``zones`` makes it one of several zones, each with a pool of its own; ``capacity`` is that of all of them.
    """

    service: str
    filesystem: Filesystem | None = None
    mount_options: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:=/+-]+$")], ...] = ()
    reclaim: Reclaim = Reclaim.DELETE
    offer: Offering = Offering.PATH
    minimum_size: Size | None = None
    maximum_size: Size | None = None
    zone: Zone = ""
    zones: Annotated[tuple[Zone, ...], Field(min_length=1)] | None = None
    type: str = ""
    iops: Annotated[int, Field(gt=0)] | None = None
    encryption: bool = False
    adopt: bool = False
    capacity: Size | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
