"""How the demo fails."""

from __future__ import annotations

from polly_mesos.errors import PollyError


class DemoFailed(PollyError):
    """A step of the demo was not reached, or something was left behind."""

    code = "demo-failed"
    exit_code = 20
