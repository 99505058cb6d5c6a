"""Publishing a directory by symbolic links: for any user, where nothing can be mounted.

At the target is a link to ``.polly-VOLUME`` beside it, and that is a link to the volume's directory. So the target
itself tells whose it is, whatever driver the directory comes from.
"""

from __future__ import annotations

import contextlib
import os

from polly_mesos.errors import MountFailed

_PREFIX = ".polly-"


def publish(target: str, volume_id: str, data: str) -> None:
    """Make ``target`` lead to the directory ``data``. Succeeds where it does already.

    :raises MountFailed: something else is at the target
    """
    volume = _volume_of(target)
    if volume is None and os.path.lexists(target):
        raise MountFailed(
            f"{target} is not a link of ours, so volume {volume_id} cannot be published there",
            remedy="move away what is there",
        )
    if volume not in (None, volume_id):
        raise MountFailed(
            f"volume {volume} is published at {target}, so volume {volume_id} cannot be", remedy=f"unpublish {volume}"
        )
    parent = os.path.dirname(target)
    beside = os.path.join(parent, f"{_PREFIX}{volume_id}")
    try:
        os.makedirs(parent, exist_ok=True)
        _point(beside, data)
        _point(target, os.path.basename(beside))
    except OSError as error:
        raise MountFailed(f"volume {volume_id} cannot be linked at {target}: {error}") from error


def unpublish(target: str) -> None:
    """Remove the links that :func:`publish` made. Succeeds where nothing is.

    :raises MountFailed: something else is at the target, or the links cannot be removed
    """
    volume = _volume_of(target)
    if volume is None:
        if os.path.lexists(target):
            raise MountFailed(f"{target} is not a link of ours, and stays", remedy="move away what is there")
        return
    # The target goes last: as long as it is there, the volume is found published and this is done again.
    try:
        for link in (os.path.join(os.path.dirname(target), f"{_PREFIX}{volume}"), target):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
    except OSError as error:
        raise MountFailed(f"{target} cannot be unlinked: {error}") from error


def volume_at(target: str) -> str | None:
    """The id of the volume that is linked at ``target``, None where none of ours is."""
    return _volume_of(target)


def _volume_of(target: str) -> str | None:
    try:
        text = os.readlink(target)
    except OSError:
        return None
    return text.removeprefix(_PREFIX) if text.startswith(_PREFIX) and "/" not in text else None


def _point(link: str, text: str) -> None:
    try:
        os.symlink(text, link)
    except FileExistsError:
        if os.readlink(link) != text:
            replacement = f"{link}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(replacement)
            os.symlink(text, replacement)
            os.rename(replacement, link)
