"""Secrets: where they may come from, and that nothing shows them."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivers.declaration import Driver
from polly_mesos.config import Configuration, ConfigurationErrors, describe, load
from polly_mesos.config import services as services_module

SECRET = "open-sesame"

TEXT = """\
cluster: demo
mesos:
  master: 127.0.0.1:5050
  principal: polly
  {secret}
services:
  local: {{driver: loop, directory: /srv}}
profiles:
  gold: {{service: local}}
"""


def write(directory: Path, secret: str, text: str = TEXT) -> Path:
    path = directory / "polly.yml"
    path.write_text(text.format(secret=secret))
    return path


def secret_file(directory: Path, mode: int = 0o600, text: str = f"{SECRET}\n") -> None:
    path = directory / "secret"
    path.write_text(text)
    path.chmod(mode)


def revealed(configuration: Configuration) -> str | None:
    secret = configuration.mesos.secret
    return secret.get_secret_value() if secret else None


def error(path: Path, **environment: str) -> str:
    with pytest.raises(ConfigurationErrors) as caught:
        load(path, environment)
    everything = str(caught.value) + repr(caught.value) + json.dumps(caught.value.as_json())
    assert SECRET not in everything
    return str(caught.value)


def assert_hidden(configuration: Configuration) -> None:
    for shown in (repr(configuration), str(configuration.mesos), json.dumps(describe(configuration))):
        assert SECRET not in shown


def test_a_secret_comes_from_a_file_beside_polly_yml(tmp_path: Path) -> None:
    secret_file(tmp_path)
    configuration = load(write(tmp_path, "secret_file: secret"))
    assert revealed(configuration) == SECRET
    assert_hidden(configuration)


def test_a_secret_comes_from_the_environment(tmp_path: Path) -> None:
    configuration = load(write(tmp_path, "secret: ${MESOS_SECRET}"), {"MESOS_SECRET": SECRET})
    assert revealed(configuration) == SECRET
    assert_hidden(configuration)


def test_a_principal_needs_no_secret(tmp_path: Path) -> None:
    assert revealed(load(write(tmp_path, ""))) is None


def test_a_secret_may_not_stand_in_polly_yml(tmp_path: Path) -> None:
    assert "polly.yml:5: mesos.secret: must not stand in the file" in error(write(tmp_path, f"secret: {SECRET}"))


def test_a_misspelt_secret_is_not_shown_either(tmp_path: Path) -> None:
    assert "mesos.secrt: is not known here (did you mean secret?)" in error(write(tmp_path, f"secrt: {SECRET}"))


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_a_secret_file_that_everybody_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    secret_file(tmp_path, mode)
    message = error(write(tmp_path, "secret_file: secret"))
    assert "polly.yml:5: mesos.secret_file: 'secret' can be read or written by everybody" in message
    assert f"chmod 600 {tmp_path}/secret" in message


def test_a_secret_file_must_exist_and_have_something_in_it(tmp_path: Path) -> None:
    path = write(tmp_path, "secret_file: secret")
    assert "mesos.secret_file: 'secret' cannot be read: No such file or directory" in error(path)
    secret_file(tmp_path, text="\n")
    assert "mesos.secret_file: 'secret' is an empty file" in error(path)


def test_a_secret_is_given_once_and_with_a_principal(tmp_path: Path) -> None:
    secret_file(tmp_path)
    both = write(tmp_path, "secret_file: secret\n  secret: ${MESOS_SECRET}")
    assert "mesos.secret_file: 'secret' is given beside secret (keep one" in error(both, MESOS_SECRET=SECRET)
    alone = write(tmp_path, "secret_file: secret", TEXT.replace("  principal: polly\n", ""))
    assert "mesos.principal: is missing, and a secret is given" in error(alone)


def test_a_password_for_zookeeper_comes_from_the_environment_and_is_hidden(tmp_path: Path) -> None:
    text = TEXT.replace("127.0.0.1:5050", "zk://polly:${{ZK}}@zk1:2181/mesos")
    configuration = load(write(tmp_path, "", text), {"ZK": SECRET})
    assert configuration.mesos.master == f"zk://polly:{SECRET}@zk1:2181/mesos"
    assert_hidden(configuration)
    written = write(tmp_path, "", text.replace("${{ZK}}", SECRET))
    assert "mesos.master: 'zk://***@zk1:2181/mesos' has a password in the file" in error(written)


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Settings of a driver with a password, a size and a duration."""

    user: str
    password: str = field(metadata={"secret": True})
    block: int = field(default=4096, metadata={"unit": "bytes"})
    timeout: float | None = field(default=None, metadata={"unit": "seconds"})
    words: tuple[str, ...] = field(default_factory=tuple)


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """polly.yml for a third party's driver with secrets."""
    module = types.ModuleType("vault_driver")
    module.VaultSettings = VaultSettings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vault_driver", module)
    driver = Driver("vault", "vault_driver:Controller", "vault_driver:Host", "vault_driver:VaultSettings")
    monkeypatch.setattr(services_module, "find_driver", lambda name: driver)
    return TEXT.replace(
        "{{driver: loop, directory: /srv}}",
        "{{driver: vault, user: u, password: PASSWORD, block: 4KiB, timeout: 2m, words: [a, b], capacity: 1GiB}}",
    )


def test_a_drivers_secret_comes_from_the_environment_and_is_hidden(tmp_path: Path, vault: str) -> None:
    configuration = load(write(tmp_path, "", vault.replace("PASSWORD", "'${{VAULT}}'")), {"VAULT": SECRET})
    assert configuration.services["local"].settings == VaultSettings("u", SECRET, 4096, 120.0, ("a", "b"))
    assert configuration.services["local"].capacity == 1024**3
    assert_hidden(configuration)


def test_a_drivers_secret_may_not_stand_in_polly_yml(tmp_path: Path, vault: str) -> None:
    message = error(write(tmp_path, "", vault.replace("PASSWORD", SECRET)))
    assert "services.local.password: must not stand in the file (write password: ${NAME})" in message
