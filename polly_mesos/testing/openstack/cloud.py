"""Keystone, Cinder and all that stands beside them, from start to end."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import openstack

from polly_mesos.errors import LocalMesosError
from polly_mesos.mesos.local.ports import free_ports
from polly_mesos.mesos.local.progress import Progress, Step, ignore
from polly_mesos.testing.openstack.bare_hosts import BareHosts
from polly_mesos.testing.openstack.broker import Broker
from polly_mesos.testing.openstack.configuration import (
    BACKEND,
    SHARE,
    SMALL_BACKEND,
    SMALL_SHARE,
    Places,
    write_cinder,
    write_keystone,
)
from polly_mesos.testing.openstack.environment import check_possible, ensure_environment, search_path
from polly_mesos.testing.openstack.instances import Instances
from polly_mesos.testing.openstack.metadata import MetadataService
from polly_mesos.testing.openstack.nova import Nova
from polly_mesos.testing.openstack.processes import Daemon
from polly_mesos.testing.openstack.proxy import Proxy
from polly_mesos.testing.openstack.rackspace import RackspaceIdentity

REGION = "RegionOne"
PROJECT, OTHER_PROJECT = "storage", "others"
USER, OTHER_USER = "polly", "somebody-else"
_SHARE_SIZE, SMALL_SIZE = 64 * 1024**3, 8 * 1024**3

_SERVE_KEYSTONE = """
import sys
port = int(sys.argv.pop())
from werkzeug.serving import WSGIRequestHandler, run_simple
from keystone.server.wsgi import initialize_public_application
WSGIRequestHandler.protocol_version = "HTTP/1.1"
application = initialize_public_application()
run_simple("127.0.0.1", port, application, threaded=True)
"""


class OpenStack:
    """One cloud; ends with its block.

    :ivar identity_url: Keystone, version 3
    :ivar volume_url: Cinder behind ``proxy``, without the project
    :ivar compute: what stands before Nova, as ``proxy`` before Cinder
    :ivar password: of every user in it
    """

    def __init__(self, progress: Progress = ignore) -> None:
        check_possible()
        self._progress = progress
        self._stack = ExitStack()
        self.password = secrets.token_hex(16)  # never a hyphen first: programs would take it for an option
        self._places = Places(Path(), ensure_environment(progress))

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def directory(self) -> Path:
        """Where all files are, the logs among them."""
        return self._places.directory

    def connect(self, user: str = "admin", project: str = "admin") -> openstack.connection.Connection:
        """The SDK as one of the cloud's users, as other programs than Polly use it."""
        connection = openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_url=self.identity_url,
            username=user,
            password=self.password,
            project_name=project,
            user_domain_name="Default",
            project_domain_name="Default",
            region_name=REGION,
        )
        self._stack.callback(connection.close)
        return connection

    def told_of(self, volume: str) -> str:
        """What the services wrote of a volume in their logs, and what they wrote around errors: the end of it."""
        told = []
        for log in sorted(self.directory.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            found = [line for line in lines if volume in line or " ERROR " in line]
            told += [f"{log.name}: {line}" for line in found[-40:]]
        return "\n".join(told)

    def login(self, **changes: Any) -> dict[str, Any]:
        """The settings of a service of Polly's for this cloud, as polly.yml would have them."""
        return {
            "auth_url": self.identity_url,
            "user_name": USER,
            "password": self.password,
            "project_name": PROJECT,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": REGION,
            "metadata_endpoint": f"{self.metadata.url}/{{node}}",
            "host_root": f"{self.instances.root}/{{node}}",
            **changes,
        }

    def _start(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="polly-openstack-"))
        self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        self._places = places = Places(directory, self._places.environment)
        self._progress(Step("starting RabbitMQ, Keystone and Cinder"))
        self._mount_shares()
        broker = Broker(directory)
        self._stack.callback(broker.end)
        keystone_port, cinder_port = free_ports("127.0.0.1", 2)
        self.identity_url = f"http://127.0.0.1:{keystone_port}/v3"
        cinder_url = f"http://127.0.0.1:{cinder_port}"
        self.proxy = Proxy(cinder_url)
        self._stack.callback(self.proxy.close)
        self.volume_url = f"{self.proxy.url}/v3"
        self._start_keystone(keystone_port)
        self.instances = Instances(directory / "hosts", places.share)
        self._stack.callback(self.instances.close)
        self.bare_hosts = BareHosts(directory / "bare-hosts", places.share, places.python)
        self._stack.callback(self.bare_hosts.close)
        self.nova = Nova(self.identity_url, cinder_url, self.password, self.instances)
        self._stack.callback(self.nova.close)
        self.compute = Proxy(self.nova.url)
        self._stack.callback(self.compute.close)
        self.metadata = MetadataService(self.nova)
        self._stack.callback(self.metadata.close)
        self._fill_keystone()
        self.rackspace = RackspaceIdentity(self.identity_url, self.volume_url, USER, PROJECT, self.password, REGION)
        self._stack.callback(self.rackspace.close)
        write_cinder(
            places,
            port=cinder_port,
            broker=broker.url,
            keystone=self.identity_url,
            nova=self.nova.url,
            password=self.password,
        )
        broker.wait_until_ready()
        self._start_cinder(cinder_url)
        self._make_types()

    def _environment(self) -> dict[str, str]:
        programs = self._places.environment / "venv/bin"
        return {
            "PATH": f"{programs}{os.pathsep}{search_path()}",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(self.directory / "cinder"),
            "OS_KEYSTONE_CONFIG_FILES": str(self._places.keystone),
            "no_proxy": "127.0.0.1",
        }

    def _run(self, *command: str) -> None:
        ran = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise LocalMesosError(f"{' '.join(command)}: {ran.stderr.strip()[-2000:]}")

    def _mount_shares(self) -> None:
        """File systems of their own where Cinder's NFS driver looks: it takes them for shares mounted already."""
        for share, size in ((SHARE, _SHARE_SIZE), (SMALL_SHARE, SMALL_SIZE)):
            mounted = self._places.mounted(share)
            image = self.directory / f"{mounted.name}.img"
            mounted.mkdir(parents=True)
            with image.open("wb") as file:
                file.truncate(size)
            self._run("mkfs.xfs", "-q", str(image))
            self._run("mount", "-o", "loop", str(image), str(mounted))
            self._stack.callback(self._run, "umount", str(mounted))

    def _start_keystone(self, port: int) -> None:
        write_keystone(self._places)
        manage = [*self._places.script("keystone-manage"), "--config-file", str(self._places.keystone)]
        (self.directory / "keystone/receipts").mkdir(mode=0o700)
        self._run(*manage, "db_sync")
        for what in ("fernet_setup", "credential_setup"):
            self._run(*manage, what, "--keystone-user", "root", "--keystone-group", "root")
        self._run(
            *manage,
            "bootstrap",
            "--bootstrap-password",
            self.password,
            "--bootstrap-public-url",
            self.identity_url,
            "--bootstrap-internal-url",
            self.identity_url,
            "--bootstrap-region-id",
            REGION,
        )
        self._daemon("keystone", [self._places.python, "-c", _SERVE_KEYSTONE, str(port)], self.identity_url)

    def _daemon(self, name: str, command: list[str], url: str = "") -> Daemon:
        daemon = Daemon(
            name,
            command,
            log=self.directory / f"{name}.log",
            environment=self._environment(),
            ready=(lambda: _serves(url)) if url else (lambda: True),
        )
        self._stack.callback(daemon.end)
        daemon.wait_until_ready()
        return daemon

    def _fill_keystone(self) -> None:
        """The catalogue, the services' users, and two projects with a user each."""
        identity: Any = self.connect().identity
        roles = {role.name: role for role in identity.roles()}
        for name in {"service", USER} - set(roles):
            roles[name] = identity.create_role(name=name)
        projects = {
            name: identity.create_project(name=name, domain_id="default")
            for name in ("service", PROJECT, OTHER_PROJECT)
        }
        for user, project, granted in (
            ("cinder", "service", ("admin", "service")),
            ("nova", "service", ("admin", "service")),
            (USER, PROJECT, (USER,)),
            (OTHER_USER, OTHER_PROJECT, ("member",)),
        ):
            made = identity.create_user(name=user, password=self.password, domain_id="default")
            for role in granted:
                identity.assign_project_role_to_user(projects[project], made, roles[role])
        self.project_id = self.nova.project = str(projects[PROJECT].id)
        for name, kind, url in (
            ("cinder", "block-storage", f"{self.volume_url}/%(project_id)s"),
            ("nova", "compute", f"{self.compute.url}/v2.1"),
        ):
            service = identity.create_service(name=name, type=kind)
            identity.create_endpoint(service_id=service.id, interface="public", url=url, region_id=REGION)

    def _start_cinder(self, url: str) -> None:
        self._run(*self._places.script("cinder-manage"), "--config-file", str(self._places.cinder), "db", "sync")
        # Several processes write to it: with a write-ahead log they seldom find it locked.
        with contextlib.closing(sqlite3.connect(self.directory / "cinder/cinder.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")
        for name in ("cinder-scheduler", "cinder-volume"):
            self._daemon(name, [*self._places.script(name), "--config-file", str(self._places.cinder)])
        command = [*self._places.script("cinder-api"), "--config-file", str(self._places.cinder)]
        self._daemon("cinder-api", command, f"{url}/")

    def _make_types(self) -> None:
        """The volume types: ordinary, encrypted, for several hosts, of the small back end, and of none that is there.

        Ready as soon as the back ends have told the scheduler what they have.
        """
        volumes: Any = self.connect().block_storage
        for name, specs in (
            ("standard", {"volume_backend_name": BACKEND}),
            ("encrypted", {"volume_backend_name": BACKEND}),
            ("shared", {"volume_backend_name": BACKEND, "multiattach": "<is> True"}),
            ("small", {"volume_backend_name": SMALL_BACKEND}),
            ("impossible", {"volume_backend_name": "none-has-this-name"}),
        ):
            kind = volumes.create_type(name=name)
            volumes.update_type_extra_specs(kind, **specs)
            if name == "encrypted":
                luks = {
                    "provider": "luks",
                    "cipher": "aes-xts-plain64",
                    "key_size": 256,
                    "control_location": "front-end",
                }
                volumes.create_type_encryption(kind, **luks)
        _wait(lambda: len(list(volumes.backend_pools())) == 2, "the back ends' pools")


def _serves(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code < 500
    except httpx.TransportError:
        return False


def _wait(look: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise LocalMesosError(f"{what} did not come in {seconds:g} seconds")
        time.sleep(0.1)
