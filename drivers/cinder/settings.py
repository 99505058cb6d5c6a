"""What polly.yml says about a service of Cinder's, and about a profile in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from drivers.declaration import DriverSettings
from polly_mesos.errors import ConfigurationError
from polly_mesos.model import Profile

NOVA, CINDER = "nova", "cinder"
RACKSPACE = "rackspace"
_SECRET = {"secret": True}
_SECONDS = {"unit": "seconds"}
_LONGEST_METADATA = 255


@dataclass(frozen=True, slots=True)
class CinderOptions:
    """Options of a profile.

    :param multiattach: accept a volume type whose volumes can be attached to several hosts; Polly gives each to one
    """

    multiattach: bool = False


@dataclass(frozen=True, slots=True)
class CinderSettings(DriverSettings):
    """How to log in, and where to go.

    One of: ``cloud`` (a name in clouds.yaml), an application credential, a user with a password, a token, or at
    Rackspace a user with an API key. All names are those of clouds.yaml.

    :param auth_url: Keystone's address, or that of Rackspace's identity service
    :param cloud: name of a cloud in clouds.yaml; what else is set here goes before what stands there
    :param clouds_file: path of clouds.yaml; the SDK's usual places where empty
    :param auth_type: empty for Keystone v3, or ``rackspace`` for the identity service v2 of Rackspace; an API key or an
        address that ends in ``/v2.0`` says as much
    :param domain_id: of user and project alike, where these are not given
    :param trust_id: a trust of Keystone's, in place of a project
    :param availability_zone: where volumes are made for profiles that name no zone
    :param ca_cert: path of a bundle of certificates to trust
    :param insecure: trust every certificate; a setting of its own, with or without ``ca_cert``
    :param cross_az_attach: instances of every zone of Nova's can have volumes of every zone of Cinder's; as Nova's
        own setting of that name
    :param attach_by: ``nova`` where the agents are instances, ``cinder`` where they reach the storage themselves
    :param attach_timeout: seconds to wait for an attachment to come or to go
    :param delete_timeout: seconds to wait for a volume or a snapshot to be gone
    :param expand_timeout: seconds to wait for a volume to have grown
    :param request_timeout: seconds to wait for one answer
    :param calls_per_second: most calls in the long run, from all threads
    :param metadata_endpoint: address of the metadata service as hosts see it
    :param host_root: where hosts see their /sys and /dev
    :param config_drive: where hosts see a mounted config drive; empty where there is none
    :param os_brick_python: path of the Python on hosts that has os-brick; of no use where Nova attaches
    :param host_directory: where hosts mount Cinder's shares and keep their records, for root alone; with ``{node}`` in
        it where several agents run on one machine
    """

    auth_url: str = ""
    cloud: str = ""
    clouds_file: str = ""
    auth_type: str = ""
    user_id: str = ""
    user_name: str = ""
    password: str = field(default="", repr=False, metadata=_SECRET)
    api_key: str = field(default="", repr=False, metadata=_SECRET)
    token: str = field(default="", repr=False, metadata=_SECRET)
    application_credential_id: str = ""
    application_credential_name: str = ""
    application_credential_secret: str = field(default="", repr=False, metadata=_SECRET)
    project_id: str = ""
    project_name: str = ""
    domain_id: str = ""
    domain_name: str = ""
    user_domain_id: str = ""
    user_domain_name: str = ""
    project_domain_id: str = ""
    project_domain_name: str = ""
    trust_id: str = ""
    region_name: str = ""
    interface: str = "public"
    availability_zone: str = ""
    ca_cert: str = ""
    insecure: bool = False
    cross_az_attach: bool = True
    attach_by: str = NOVA
    attach_timeout: float = field(default=60.0, metadata=_SECONDS)
    delete_timeout: float = field(default=600.0, metadata=_SECONDS)
    expand_timeout: float = field(default=600.0, metadata=_SECONDS)
    request_timeout: float = field(default=60.0, metadata=_SECONDS)
    calls_per_second: float = 50.0
    metadata_endpoint: str = "http://169.254.169.254"
    host_root: str = "/"
    config_drive: str = ""
    os_brick_python: str = "/usr/bin/python3"
    host_directory: str = "/var/lib/polly/cinder"

    def __post_init__(self) -> None:
        self._check_login()
        if self.attach_by not in (NOVA, CINDER):
            raise _wrong("attach_by", self.attach_by, "is neither nova nor cinder", "write attach_by: nova")
        for name in ("os_brick_python", "host_directory"):
            if not getattr(self, name).startswith("/"):
                raise _wrong(name, getattr(self, name), "is no absolute path", "write the whole path on the hosts")
        for name in ("attach_timeout", "delete_timeout", "expand_timeout", "request_timeout", "calls_per_second"):
            if getattr(self, name) <= 0:
                raise _wrong(name, getattr(self, name), "must be more than 0", "leave it out for the usual value")

    @property
    def uses_identity_v2(self) -> bool:
        """Whether the login is that of Rackspace: said so, or an API key, or an address that ends in its version."""
        return self.auth_type == RACKSPACE or bool(self.api_key) or self.auth_url.rstrip("/").endswith("/v2.0")

    def _check_login(self) -> None:
        if self.auth_type not in ("", RACKSPACE):
            raise _wrong(
                "auth_type", self.auth_type, "is not known", "leave it out for Keystone v3, or write rackspace"
            )
        if self.cloud:
            return
        if not self.auth_url:
            raise _wrong("auth_url", "", "is missing", "write Keystone's address, or cloud: NAME of a clouds.yaml")
        user = self.user_name or self.user_id
        if self.uses_identity_v2:
            if not (user and (self.api_key or self.password)):
                raise _wrong("user_name", user, "and api_key or password are needed", "write user_name and api_key")
            return
        credential = self.application_credential_id or self.application_credential_name
        if not (self.token or (user and self.password) or (credential and self.application_credential_secret)):
            raise _wrong(
                "password",
                "",
                "is missing: nothing to log in with",
                "write user_name and password, an application credential with its secret, or a token",
            )

    @property
    def can_fence(self) -> bool:
        """Nova knows its instances; Cinder knows no hosts."""
        return self.attach_by == NOVA

    def zone_of(self, profile: Profile) -> str:
        return profile.zone or self.availability_zone

    def reach_of(self, profile: Profile) -> tuple[str, ...]:
        """Cinder's zones and Nova's mean the same only where Nova was told so; hosts without Nova have none."""
        return () if self.cross_az_attach or self.attach_by == CINDER else DriverSettings.reach_of(self, profile)

    def check_profile(self, profile: Profile) -> None:
        """Refuse labels that Cinder does not take, and IOPS, which its volume types have and not its volumes."""
        if profile.iops is not None:
            raise ConfigurationError(
                "iops cannot be asked of Cinder volume by volume",
                remedy="let the operator of the cloud make a volume type with QoS specs, and name it as type",
                field="iops",
                value=profile.iops,
            )
        if profile.encryption and self.attach_by == CINDER:
            raise ConfigurationError(
                "what Cinder encrypts can only be read through Nova, which has the keys",
                remedy="leave encryption out and let the back end encrypt; or write attach_by: nova",
                field="encryption",
                value=True,
            )
        for name, text in profile.tags.items():
            if len(text) > _LONGEST_METADATA or not 0 < len(name) <= _LONGEST_METADATA or name.startswith("polly:"):
                raise ConfigurationError(
                    f"tag {name!r} cannot be metadata of a volume",
                    remedy=f"both have at most {_LONGEST_METADATA} characters; names do not begin with polly:",
                    field="tags",
                    value=name,
                )


def _wrong(name: str, value: object, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name} {what}", remedy=remedy, field=name, value=value)
