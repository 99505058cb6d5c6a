"""The disks that one guest's kernel shows, as SCSI or NVMe, by the interface with which they are attached."""

from __future__ import annotations

from pathlib import Path

from polly_mesos.model import Json
from polly_mesos.testing.block_hosts import HostTree

_CONTROLLER = "nvme_card-pd"
_NVME_FILES = {"device/serial": f"{_CONTROLLER:20}\n", "device/model": f"{_CONTROLLER:40}\n"}
_WWID = f"nvme.1ae0-{_CONTROLLER.encode().hex()}-{_CONTROLLER.encode().hex()}"


class GuestDisks:
    """The disks of one guest, the boot disk apart, which has the first place and is not shown.

    The kernel gives an NVMe disk the smallest number that is free; that of its namespace is the controller's, which
    gives none twice here. So they differ as soon as one disk has gone.
    """

    def __init__(self, root: Path) -> None:
        self.tree = HostTree(root)
        self._devices: dict[str, str] = {}
        self._namespaces = 1

    def plug(self, attached: Json, image: Path) -> None:
        """A disk appears, with the name that it is attached by."""
        name = str(attached["deviceName"])
        if attached["interface"] == "NVME":
            taken = set(self._devices.values())
            device = next(one for number in range(2, 1000) if (one := f"nvme0n{number}") not in taken)
            files = self._namespace(device, name, attached["type"])
        else:
            device, files = f"sd{chr(ord('a') + attached['index'])}", _scsi_files(name)
        self._devices[name] = device
        # as udev makes it by Google's rules
        self.tree.plug(device, image, files, {f"disk/by-id/google-{name}": f"../../{device}"})

    def unplug(self, name: str) -> None:
        """A disk is gone."""
        device = self._devices.pop(name)
        self.tree.unplug(device)
        node = self._nvme("nodes", device)
        if node.exists():
            self._nvme("namespaces", node.read_text()).unlink()
            node.unlink()

    def resize(self, name: str) -> None:
        """A disk shows the size that its image has now."""
        self.tree.resize(self._devices[name])

    def _namespace(self, device: str, name: str, kind: str) -> dict[str, str | bytes]:
        """The controller gets a namespace; what the kernel tells of it."""
        self._namespaces += 1
        number = str(self._namespaces)
        for place, text in (
            (self._nvme("namespaces", number), f'{{"device_name":"{name}","disk_type":"{kind}"}}'),
            (self._nvme("nodes", device), number),
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return {**_NVME_FILES, "nsid": f"{number}\n", "wwid": f"{_WWID}-{self._namespaces:08x}\n"}

    def _nvme(self, *place: str) -> Path:
        """Where :mod:`polly_mesos.testing.gce.nvme_ioctl` finds what the controller answers."""
        return self.tree.root.joinpath("nvme", *place)


def _scsi_files(name: str) -> dict[str, str | bytes]:
    text = f"Google  PersistentDisk  {name}"
    descriptor = b"\x02\x01\x00" + bytes([len(text)]) + text.encode()
    page = b"\x00\x83" + len(descriptor).to_bytes(2, "big") + descriptor
    return {"device/vpd_pg83": page, "device/wwid": f"t10.{text}\n"}
