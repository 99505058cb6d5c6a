"""The configuration files of Keystone and Cinder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

SHARE, SMALL_SHARE = "127.0.0.1:/export", "127.0.0.1:/small"
POLICY = Path(__file__).parents[3] / "examples" / "cinder-policy.yaml"
BACKEND, SMALL_BACKEND = "nfs", "small"
"""The back ends: one that promises much, and one that has little and promises no more than it has."""

FIXED_KEY = "0123456789abcdef" * 4
"""The one key of Cinder's key manager, in hexadecimal. That text is also the pass phrase of its LUKS volumes."""

SMALL_ZONE = "small-zone"
_SMALL = (
    "max_over_subscription_ratio = 1.0",
    "reserved_percentage = 25",
    f"backend_availability_zone = {SMALL_ZONE}",
)

BACKEND_SOURCE = '''
from cinder.volume.drivers import nfs
from oslo_concurrency import processutils


def _measured(execute):
    """QEMU measures how long a pass phrase takes, and gives up where the kernel's clock of CPU time stood still."""

    def execute_or_repeat(*command, **options):
        for left in reversed(range(20)):
            try:
                return execute(*command, **options)
            except processutils.ProcessExecutionError as error:
                if not left or "accurate CPU usage" not in str(error.stderr):
                    raise

    return execute_or_repeat


class OnlineNfsDriver(nfs.NfsDriver):
    """Cinder's own NFS driver, which also extends files that an instance has open, as most back ends can.

    What it makes of an encrypted volume is qcow2, and Cinder 29 notes it as raw, so that no hypervisor could open it.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._execute = _measured(self._execute)

    def extend_volume(self, volume, new_size):
        attached, self._is_volume_attached = self._is_volume_attached, lambda volume: False
        try:
            super().extend_volume(volume, new_size)
        finally:
            self._is_volume_attached = attached

    def _do_create_volume(self, volume):
        super()._do_create_volume(volume)
        if volume.encryption_key_id is not None:
            volume.admin_metadata["format"] = "qcow2"
            with volume.obj_as_admin():
                volume.save()
'''
"""A module of the volume service, beside Cinder's own."""

IMMEDIATE_SOURCE = """
from sqlite3 import dbapi2


class Cursor(dbapi2.Cursor):
    def execute(self, statement, *arguments):
        return super().execute("BEGIN IMMEDIATE" if statement == "BEGIN" else statement, *arguments)


class Connection(dbapi2.Connection):
    def cursor(self, factory=Cursor):
        return super().cursor(factory)


def connect(*arguments, **options):
    return _connect(*arguments, **{"factory": Connection, **options})


_connect, dbapi2.connect = dbapi2.connect, connect
"""
"""A ``sitecustomize`` for the services, which share one SQLite file.

A transaction that reads first and writes then is refused at once where another process wrote in between; no time-out
helps. So each one waits for its turn when it begins.
"""


@dataclass(frozen=True)
class Places:
    """Where everything of one cloud is.

    :param directory: a temporary directory of its own
    :param environment: the virtual environment with the programs
    """

    directory: Path
    environment: Path

    @property
    def python(self) -> str:
        """The interpreter of the environment."""
        return str(self.environment / "venv/bin/python")

    def script(self, name: str) -> list[str]:
        """The beginning of a command line that runs a script of the environment."""
        return [self.python, str(self.environment / "venv/bin" / name)]

    @property
    def mounts(self) -> Path:
        """Where Cinder expects its NFS shares to be mounted."""
        return self.directory / "mounts"

    @property
    def share(self) -> Path:
        """Where Cinder's NFS driver looks for the share."""
        return self.mounted(SHARE)

    def mounted(self, share: str) -> Path:
        """Where Cinder's NFS driver looks for a share."""
        return self.mounts / hashlib.md5(share.encode(), usedforsecurity=False).hexdigest()

    @property
    def keystone(self) -> Path:
        """Keystone's configuration file."""
        return self.directory / "keystone.conf"

    @property
    def cinder(self) -> Path:
        """Cinder's configuration file."""
        return self.directory / "cinder.conf"


def write_keystone(places: Places) -> None:
    """Keystone with its own database and keys."""
    home = places.directory / "keystone"
    home.mkdir()
    places.keystone.write_text(f"""
[database]
connection = sqlite:///{home}/keystone.db?timeout=60
sqlite_synchronous = False
[token]
expiration = 86400
[fernet_tokens]
key_repository = {home}/fernet
[fernet_receipts]
key_repository = {home}/receipts
[credential]
key_repository = {home}/credential
[identity]
password_hash_rounds = 4
[oslo_middleware]
enable_proxy_headers_parsing = True
""")


def write_cinder(places: Places, *, port: int, broker: str, keystone: str, nova: str, password: str) -> None:
    """Cinder with its back ends, whose shares are mounted already, and with the policy file of our examples."""
    home = places.directory / "cinder"
    etc = places.environment / "venv/etc/cinder"
    for name in ("locks", "images", "conversion"):
        (home / name).mkdir(parents=True)
    (home / "polly_nfs.py").write_text(BACKEND_SOURCE)
    (home / "sitecustomize.py").write_text(IMMEDIATE_SOURCE)
    for name, share in ((BACKEND, SHARE), (SMALL_BACKEND, SMALL_SHARE)):
        (home / f"shares-{name}").write_text(f"{share}\n")
    privsep = f"{' '.join(places.script('privsep-helper'))} --config-file {places.cinder}"
    login = f"""auth_type = password
auth_url = {keystone}
username = cinder
password = {password}
project_name = service
user_domain_name = Default
project_domain_name = Default"""
    places.cinder.write_text(f"""
[DEFAULT]
state_path = {home}
image_conversion_dir = {home}/conversion
api_paste_config = {etc}/api-paste.ini
resource_query_filters_file = {etc}/resource_filters.json
rootwrap_config = {etc}/rootwrap.conf
transport_url = {broker}
auth_strategy = keystone
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
osapi_volume_workers = 1
osapi_max_limit = 8
enabled_backends = {BACKEND},{SMALL_BACKEND}
default_volume_type = standard
storage_availability_zone = nova
quota_volumes = 200
quota_gigabytes = 400
quota_snapshots = 100
report_interval = 2
backend_stats_polling_interval = 3
periodic_interval = 5
migration_create_volume_timeout_secs = 30
{_backend(places, BACKEND, "max_over_subscription_ratio = 20.0")}
{_backend(places, SMALL_BACKEND, *_SMALL)}
[database]
connection = sqlite:///{home}/cinder.db?timeout=60
sqlite_synchronous = False
[oslo_concurrency]
lock_path = {home}/locks
[coordination]
backend_url = file://{home}/locks
[oslo_middleware]
enable_proxy_headers_parsing = True
[oslo_policy]
policy_file = {POLICY}
enforce_new_defaults = True
[cinder_sys_admin]
helper_command = {privsep}
[privsep_osbrick]
helper_command = {privsep}
[key_manager]
backend = cinder.keymgr.conf_key_mgr.ConfKeyManager
fixed_key = {FIXED_KEY}
[keystone_authtoken]
www_authenticate_uri = {keystone}
service_token_roles = service
service_token_roles_required = True
{login}
[nova]
token_auth_url = {keystone}
{login}
""")


def _backend(places: Places, name: str, *options: str) -> str:
    return f"""[{name}]
volume_driver = polly_nfs.OnlineNfsDriver
volume_backend_name = {name}
nfs_shares_config = {places.directory}/cinder/shares-{name}
nfs_mount_point_base = {places.mounts}
nfs_snapshot_support = True
nas_secure_file_operations = False
nas_secure_file_permissions = False
{chr(10).join(options)}"""
