"""The steps of the demo: what each is called, how it is recognised, and where a person can see it.

A step is recognised by what is so, not by what was just done: however often a process dies in between, it is reached as
soon as its facts are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from polly_mesos.demo.environment import PROFILE
from polly_mesos.demo.observe import Observation, Space
from polly_mesos.model import MB, Json


@dataclass
class World:
    """All that the demo has seen so far.

    :param now: the last look at Polly and Mesos
    :param events: what the framework told, the last of each kind
    :param volume: the volume as it was when it was seen last, published if it was seen so
    :param before: the space when the pool was first on offer; ``during`` and ``after`` as their names say
    :param left: what is left on this machine of deleted volumes, as text
    :param framework_log: where the framework's words are
    """

    polly: str
    master: str
    agents: int
    now: Observation = field(default_factory=Observation)
    events: dict[str, Json] = field(default_factory=dict)
    volume: Json = field(default_factory=dict)
    before: Space | None = None
    during: Space | None = None
    after: Space | None = None
    left: str = ""
    framework_log: str = ""

    def see(self, observation: Observation) -> None:
        """Take in another look."""
        self.now = observation
        name = self.events.get("reserving", {}).get("volume")
        for volume in observation.volumes:
            published = (volume["publication"] or {}).get("state") == "published"
            if volume["persistence_id"] == name and (published or not self.mapped or volume["id"] != self.volume["id"]):
                self.volume = volume
                # at the same moment the master and the ledger may be at different points of an operation
                if observation.pools and observation.space.claimed == observation.space.volumes > 0:
                    self.during = observation.space

    def hear(self, event: Json) -> None:
        """Take in what the framework tells."""
        self.events[event["event"] + (f"-{event['run']}" if "run" in event else "")] = event

    @property
    def mapped(self) -> bool:
        """Whether the volume was seen published."""
        return (self.volume.get("publication") or {}).get("state") == "published"


@dataclass(frozen=True)
class Step:
    """One step.

    :param title: what has come to be, as a sentence
    :param reached: what was seen of it in a few words, or None while it is not so
    :param look: the command with which a person sees it
    """

    name: str
    title: str
    reached: Callable[[World], str | None]
    look: Callable[[World], str]


def _registered(world: World) -> str | None:
    return f"framework {world.now.health['framework_id']}" if world.now.health.get("registered") else None


def _executors(world: World) -> str | None:
    connected = [agent for agent in world.now.agents if agent["state"] == "connected" and not agent["problems"]]
    return f"on {len(connected)} agents" if len(connected) == world.agents else None


def _offered(world: World) -> str | None:
    offered = world.now.offered
    leased = sum(pool["leased"] for pool in world.now.pools)
    if len(offered) < world.agents or sum(offered.values()) != leased:
        return None
    world.before = world.now.space
    return " + ".join(f"{size // MB} MB" for size in offered.values())


def _reserved(world: World) -> str | None:
    if not world.volume:
        return None
    return f"{world.volume['size'] // MB} MB: {world.volume['persistence_id']}"


def _mapped(world: World) -> str | None:
    if world.mapped:
        publication = world.volume["publication"]
        return f"{publication['device'] or 'a directory'} at {publication['target']}"
    # a task that has run has had its volume, also where Polly was not there to be asked
    return "seen by the task" if "task-finished-1" in world.events else None


def _look_at_mount(world: World) -> str:
    target = (world.volume.get("publication") or {}).get("target")
    return f"findmnt {target}" if target else f"polly operation list --scheduler {world.polly}"


def _ran(world: World) -> str | None:
    event = world.events.get("task-finished-1")
    return None if event is None else f"it printed: {event['lines'][-1]}"


def _found(world: World) -> str | None:
    event = world.events.get("task-finished-2")
    return None if event is None else f"it printed {len(event['lines'])} lines, the earlier one first"


def _destroyed(world: World) -> str | None:
    return "by the framework" if "released" in world.events else None


def _returned(world: World) -> str | None:
    space, before = world.now.space, world.before
    if before is None or not world.now.pools or world.now.volumes or world.left:
        return None
    if space.reserved or space.volumes or space.claimed or space.offered != space.leased:
        return None
    if space.capacity != before.capacity or space.offered < before.offered:
        return None
    world.after = space
    return f"{space.offered // MB} MB on offer, as before"


STEPS = (
    Step(
        "registered",
        "Polly is registered with the Mesos master",
        _registered,
        lambda world: f"curl {world.polly}/health",
    ),
    Step(
        "executors",
        "Polly's executor runs on every agent",
        _executors,
        lambda world: f"polly agent list --scheduler {world.polly}",
    ),
    Step(
        "offered",
        f"Pool {PROFILE} is in Mesos' offers, beside CPU and memory",
        _offered,
        lambda world: f"curl {world.master}/slaves",
    ),
    Step(
        "reserved",
        "A framework has reserved a part of it and created a volume",
        _reserved,
        lambda world: f"polly volume list --scheduler {world.polly}",
    ),
    Step(
        "mapped",
        "The volume is attached, formatted and mounted",
        _mapped,
        _look_at_mount,
    ),
    Step(
        "ran",
        "A task has written a line to it and ended",
        _ran,
        lambda world: f"tail {world.framework_log}",
    ),
    Step(
        "found",
        "A second task has found that line",
        _found,
        lambda world: f"tail {world.framework_log}",
    ),
    Step(
        "destroyed",
        "The volume is destroyed and its reservation released",
        _destroyed,
        lambda world: f"polly operation list --scheduler {world.polly}",
    ),
    Step(
        "returned",
        "Its capacity is on offer again, and nothing of it is left",
        _returned,
        lambda world: f"polly pool list --scheduler {world.polly}",
    ),
)
