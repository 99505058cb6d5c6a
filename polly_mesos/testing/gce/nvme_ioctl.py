"""What an NVMe controller of Google's answers, where the disks are loop devices: the kernel's two ioctls, made up.

Loop devices know no NVMe commands, so the commands are answered before they reach the kernel. All else is as on a real
instance: the driver opens the real device node, and packs and passes the very command that the kernel would get, which
is judged here field by field. Standard library only and no import of ours: an executor loads this file by its path
(:func:`interpreter`), and must get the rest of Polly from its own archive.

A guest's controller is below ``nvme`` in its tree: ``nodes/NAME`` has the number of the namespace behind a node,
``namespaces/NUMBER`` the text in the vendor's part of its description.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shlex
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

GET_ID = 0x4E40
ADMIN_COMMAND = 0xC0484E41
_COMMAND = struct.Struct("<BBHIIIQQIIIIIIIIII")
"""``struct nvme_passthru_cmd`` of ``linux/nvme_ioctl.h``"""
_IDENTIFY = 0x06
_IDENTIFY_NAMESPACE = 0
_PAGE = 4096
_VENDOR_PART = 384
_INVALID_FIELD = 0x4002
_INVALID_NAMESPACE = 0x400B
_MOST_NAMESPACES = 128

_real: Callable[..., Any] = fcntl.ioctl


def install() -> None:
    """From now on :func:`fcntl.ioctl` answers NVMe's commands for nodes in the trees of guests."""
    fcntl.ioctl = _ioctl


def uninstall() -> None:
    """The kernel answers again."""
    fcntl.ioctl = _real


def interpreter(directory: Path, python: str) -> Path:
    """A Python for executors in which this is installed from the beginning.

    :param directory: where it is written
    """
    (directory / "sitecustomize.py").write_text(
        "import importlib.util\n"
        f"made = importlib.util.spec_from_file_location('answers_nvme_commands', {__file__!r})\n"
        "module = importlib.util.module_from_spec(made)\n"
        "made.loader.exec_module(module)\n"
        "module.install()\n"
    )
    program = directory / "python-with-nvme"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(directory))} exec {shlex.quote(python)} "$@"\n')
    program.chmod(0o755)
    return program


def _ioctl(file: Any, request: int, arg: Any = 0, mutate_flag: bool = True) -> Any:
    if request in (GET_ID, ADMIN_COMMAND):
        descriptor = file if isinstance(file, int) else file.fileno()
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        controller = path.parents[1] / "nvme"
        node = controller / "nodes" / path.name
        if stat.S_ISBLK(os.fstat(descriptor).st_mode) and node.exists():
            return int(node.read_text()) if request == GET_ID else _admin(controller, arg)
    return _real(file, request, arg, mutate_flag)


def _admin(controller: Path, arg: Any) -> int:
    """Carry out an admin command; 0, or the status with which NVMe refuses it (NVMe base specification, 4.5)."""
    if not isinstance(arg, bytearray) or len(arg) != _COMMAND.size:
        # with bytes, Python hides the status that the kernel returns
        raise OSError(errno.EFAULT, "the command is not a buffer of its length")
    opcode, flags, _, namespace, *_, address, metadata, length, what = _COMMAND.unpack(arg)[:11]
    if opcode != _IDENTIFY or flags or metadata or length != _PAGE or what != _IDENTIFY_NAMESPACE:
        return _INVALID_FIELD
    if not 1 <= namespace <= _MOST_NAMESPACES:
        return _INVALID_NAMESPACE
    ctypes.memmove(address, _page(controller / "namespaces" / str(namespace)), _PAGE)
    return 0


def _page(namespace: Path) -> bytes:
    """The description of a namespace; zeros where there is none."""
    if not namespace.exists():
        return bytes(_PAGE)
    text = namespace.read_bytes()
    return bytes(_VENDOR_PART) + text + bytes(_PAGE - _VENDOR_PART - len(text))
