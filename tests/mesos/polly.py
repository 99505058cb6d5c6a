"""Polly for the tests: ``polly serve`` as a process of its own on a local Mesos, with a polly.yml of the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import yaml

from polly_mesos.mesos.local.cluster import LocalCluster
from polly_mesos.mesos.local.ports import free_ports
from tests.leftovers import loop_devices_below
from tests.mesos.framework import wait_until

POLLY = [sys.executable, "-c", "from polly_mesos.cli.main import main; main()"]


def settings(cluster: LocalCluster, directory: Path, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """A polly.yml for the cluster; each section given is laid over the default one."""
    for agent in cluster.agents:
        (cluster.volumes / agent.endpoint.rpartition(":")[2]).mkdir(parents=True, exist_ok=True)
    (directory / "platform").mkdir(exist_ok=True)
    driver = "loop" if os.geteuid() == 0 else "directory"
    defaults: dict[str, Any] = {
        "mesos": {"master": cluster.master_url, "failover_timeout": "1h"},
        "http": {"listen": f"{cluster.ip}:{free_ports(cluster.ip, 1)[0]}"},
        "ledger": {"path": str(directory / "ledger.db")},
        "agents": {
            "volume_root": f"{cluster.volumes}/{{port}}",
            "python": sys.executable,
            "unpublish_grace": "1s",
            "settle": "1s",
        },
        "services": {"local": {"driver": driver, "directory": str(directory / "platform"), "capacity": "2GiB"}},
        "profiles": {"gold": {"service": "local", "minimum_size": "16MiB"}},
        "planner": {"interval": "1s"},
    }
    merged = {name: {**defaults.get(name, {}), **sections.get(name, {})} for name in {**defaults, **sections}}
    return {"cluster": "test", **merged}


class Polly:
    """One scheduler half, from ``with`` to its end."""

    def __init__(self, cluster: LocalCluster, directory: Path, **sections: Mapping[str, Any]) -> None:
        self.directory = directory
        self.configuration = directory / "polly.yml"
        made = settings(cluster, directory, **sections)
        self.configuration.write_text(yaml.safe_dump(made))
        self.url = f"http://{made['http']['listen']}"
        self.log = directory / "polly.log"
        self.environment: dict[str, str] = {}
        """What its process finds in its environment beside what the tests' has."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Polly:
        try:
            self.start()
        except BaseException:
            sys.stderr.write(self.log.read_text()[-6000:])
            if self._process is not None:
                self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(self.log.read_text()[-6000:])
        if self._process is not None and self._process.poll() is None:
            self.stop()
        for device in loop_devices_below(self.directory):
            # what is mounted still goes with its last mount, when the cluster ends
            subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)

    def start(self, *options: str) -> None:
        """Start it, and wait until Mesos has it."""
        with self.log.open("ab") as log:
            command = [*POLLY, "serve", "--config", str(self.configuration), *options]
            environment = {**os.environ, **self.environment}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        wait_until(lambda: self._registered() or self._ended())

    def stop(self) -> None:
        """End it as an init system would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0, self.log.read_text()[-3000:]

    def kill(self) -> None:
        """End it as the kernel would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def wait_for_end(self) -> int:
        """Wait until it ends by itself; its exit status."""
        assert self._process is not None
        return self._process.wait(60)

    def pause(self) -> None:
        """Stop its process, which keeps its connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _ended(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"polly serve ended: {self.log.read_text()[-3000:]}"
        return False

    def _registered(self) -> bool:
        try:
            return bool(self.get("/health")["registered"])
        except httpx.TransportError:
            return False

    def get(self, path: str, **query: Any) -> Any:
        """GET of the admin API."""
        answer = httpx.get(self.url + path, params=query, timeout=10.0, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def call(self, *arguments: str, fails: int = 0) -> str:
        """Run the ``polly`` command against it; returns stdout, or stderr where it has to fail with that status."""
        environment = {
            **os.environ,
            "POLLY_SCHEDULER": self.url,
            "POLLY_TOKEN_FILE": str(self.directory / "operator-token"),
        }
        ran = subprocess.run([*POLLY, *arguments], env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == fails, ran.stdout + ran.stderr
        return ran.stderr if fails else ran.stdout

    def connected(self, count: int) -> list[dict[str, Any]]:
        """The agents, once so many are connected and have a lease or a provider."""

        def ready() -> list[dict[str, Any]]:
            agents = [agent for agent in self.get("/v1/agents") if agent["state"] == "connected" and agent["provider"]]
            return agents if len(agents) >= count else []

        found: list[dict[str, Any]] = wait_until(ready)
        return found

    def pool(self, name: str = "gold") -> dict[str, Any]:
        """A pool as the admin API shows it."""
        (found,) = [pool for pool in self.get("/v1/pools") if pool["name"] == name]
        return found
