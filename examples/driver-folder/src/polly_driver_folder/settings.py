"""What polly.yml says about a service of this driver, and what its profiles cannot have."""

from __future__ import annotations

import os
from dataclasses import dataclass

from drivers.base import CreateRequest
from drivers.declaration import DriverSettings
from polly_mesos.errors import ConfigurationError
from polly_mesos.model import Profile


@dataclass(frozen=True, slots=True)
class FolderSettings(DriverSettings):
    """Where the volumes are.

    :param directory: absolute path of an existing folder *within* the share, the same on the scheduler's machine and on
        every host. Where the share is not mounted the folder is missing too, so nothing is mistaken for an empty share.
    """

    directory: str

    def __post_init__(self) -> None:
        if not os.path.isabs(self.directory):
            raise ValueError(f"directory must be an absolute path, and {self.directory!r} is not")

    def check_profile(self, profile: Profile) -> None:
        for name, value in lacking(profile).items():
            raise ConfigurationError(
                "is nothing that a folder on a share has",
                field="type" if name == "platform_type" else name,
                value=value,
                remedy="leave it out",
            )


def lacking(asked: Profile | CreateRequest) -> dict[str, object]:
    """What is asked for and no folder has; a driver refuses it rather than ignore it."""
    names = ("zone", "platform_type", "iops", "encryption", "options")
    return {name: getattr(asked, name) for name in names if getattr(asked, name)}
