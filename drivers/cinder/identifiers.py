"""Ids of OpenStack's: volumes, snapshots and instances alike. Standard library only: it travels."""

from __future__ import annotations

import re

IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_identifier(text: str) -> bool:
    """Whether OpenStack can have given this id; nothing else is put into a path."""
    return bool(IDENTIFIER.fullmatch(text))
