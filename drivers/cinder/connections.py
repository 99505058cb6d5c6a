"""What Cinder tells of the way to a volume, and which of it may be kept and shown.

Only what is known to be harmless is. Everything else, as CHAP's password and a key of Ceph's, and whatever a driver of
Cinder's adds that is not known here, is told to the host for the one call that connects, and kept by nobody.
"""

from __future__ import annotations

from polly_mesos.model import Json

WITHHELD = "withheld"
"""In an attachment: the names of what is not kept."""

VALUES = "withheld_values"
"""In an attachment, for one call: the values to these names."""

_ALWAYS = {"driver_volume_type", "attachment_id", "volume_id", "access_mode", "encrypted", "cacheable", "discard"}
_ALWAYS |= {"enforce_multipath", "qos_specs", "device_path"}
_SCSI = {"target_discovered", "target_portal", "target_portals", "target_iqn", "target_iqns", "target_lun"}
_SCSI |= {"target_luns", "target_wwn", "target_wwns", "initiator_target_map", "initiator_target_lun_map"}
_SCSI |= {"addressing_mode", "auth_method"}
_SHARES = {"export", "name", "format", "mount_point_base"}
_CEPH = {"hosts", "ports", "cluster_name", "auth_enabled", "auth_username", "secret_type", "secret_uuid"}
_NVME = {"target_nqn", "nqn", "host_nqn", "ns_id", "portals", "transport_type", "target_port", "vol_uuid"}
_NVME |= {"volume_nguid", "volume_replicas", "replica_count", "uuid", "subsysnqn"}
_SCALEIO = {"scaleIO_volname", "scaleIO_volume_id", "config_group", "failed_over"}
_HARMLESS = _ALWAYS | _SCSI | _SHARES | _CEPH | _NVME | _SCALEIO
"""Names that os-brick's connectors look for and that tell where the volume is, not how to be let in."""


def kept(connection: Json) -> Json:
    """What hosts get with every call, and the ledger and the hosts' records keep."""
    return {name: value for name, value in sorted(connection.items()) if name in _HARMLESS}


def withheld(connection: Json) -> Json:
    """What is told for one call alone."""
    return {
        name: value for name, value in sorted(connection.items()) if name not in _HARMLESS and value not in (None, "")
    }
