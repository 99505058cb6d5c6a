"""Google disks made and deleted through the driver, beside the bare SDK making the same calls to the same counterpart.

The counterpart runs in a process of its own, so that it takes the same from both. Each figure is the best of several
rounds in which both take turns.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from google.api_core.client_options import ClientOptions
from google.cloud import compute_v1
from google.oauth2 import service_account

from bench.rates import compare, show
from drivers.base import CreateRequest, PlatformState, Tags
from drivers.gce.controller import GceController
from drivers.gce.settings import GIB, GceSettings

ROUNDS = 8
REPEATS = 20
ZONE = "europe-west3-a"

_SERVER = """
import sys
from pathlib import Path
from polly_mesos.testing.gce import FakeCompute
with FakeCompute(Path(sys.argv[1]) / "platform") as compute:
    compute.key_file(Path(sys.argv[1]) / "key.json")
    print(compute.endpoint, flush=True)
    sys.stdin.read()
"""


def run() -> list[tuple[str, float, float, float]]:
    """Name, ours per second, the bare SDK's per second, and their ratio."""
    with (
        tempfile.TemporaryDirectory(prefix="polly-bench-") as name,
        subprocess.Popen(
            [sys.executable, "-c", _SERVER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        endpoint = server.stdout.readline().strip()
        try:
            return [
                compare(
                    "gce: volume created and deleted",
                    *_both(Path(name) / "key.json", endpoint),
                    rounds=ROUNDS,
                    repeats=REPEATS,
                )
            ]
        finally:
            server.stdin.close()


def _both(key: Path, endpoint: str) -> tuple[Callable[[], None], Callable[[], None]]:
    settings = GceSettings(key_file=str(key), zone=ZONE, endpoint=endpoint, requests_per_second=1e6)
    controller = GceController(settings, "bench")

    def ours() -> None:
        token = str(uuid.uuid4())
        volume = controller.create(CreateRequest(token, 10 * GIB, Tags("bench", token, "gold")))
        while volume.state is not PlatformState.AVAILABLE:
            volume = controller.get(volume.id)
        controller.delete(volume.id)

    credentials = service_account.Credentials.from_service_account_file(str(key))
    options = ClientOptions(api_endpoint=endpoint)
    disks = compute_v1.DisksClient(credentials=credentials, client_options=options)
    operations = compute_v1.ZoneOperationsClient(credentials=credentials, client_options=options)
    place = {"project": "acme-storage", "zone": ZONE}

    def bare() -> None:
        name = f"bare-{uuid.uuid4()}"
        kind = f"projects/acme-storage/zones/{ZONE}/diskTypes/pd-balanced"
        wanted = compute_v1.Disk(name=name, size_gb=10, type_=kind, description="x" * 200, labels={"a": "b"})
        asked = compute_v1.InsertDiskRequest(disk_resource=wanted, request_id=str(uuid.uuid4()), **place)
        disks.insert_unary(request=asked, retry=None)
        while disks.get(disk=name, **place, retry=None).status != "READY":
            pass
        disks.get(disk=name, **place, retry=None)  # whose it is, as the driver looks before it deletes
        deleting = disks.delete_unary(disk=name, **place, retry=None)
        while deleting.status != compute_v1.Operation.Status.DONE:
            deleting = operations.wait(operation=deleting.name, **place, retry=None)

    return ours, bare


if __name__ == "__main__":
    show(run())
