"""The files that a newcomer copies say what the parser understands, and fit together."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from polly_mesos.cli.configuration import check
from polly_mesos.config import load
from polly_mesos.model import MB, Offering

ROOT = Path(__file__).parents[3]


def test_the_compose_file_holds_a_valid_configuration(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    content = compose["configs"]["polly"]["content"]
    values = {"MESOS_MASTER": "zk://10.0.0.2:2181/mesos", "POLLY_URL": "http://10.0.0.9:7979"}
    text, substituted = re.subn(r"\$\{(\w+):\?[^}]*\}", lambda match: values[match[1]], content)
    file = tmp_path / "polly.yml"
    file.write_text(text)
    configuration = load(file)
    assert substituted == len(values)
    assert configuration.mesos.master == values["MESOS_MASTER"]
    assert configuration.http.url == values["POLLY_URL"]
    directory = configuration.services["local"].settings.directory
    assert f"{directory}:{directory}" in compose["services"]["polly"]["volumes"]
    assert f"ledger:{configuration.ledger.path.parent}" in compose["services"]["polly"]["volumes"]


def test_the_marathon_app_asks_for_a_profile_of_the_example_configuration() -> None:
    app = json.loads((ROOT / "examples" / "marathon-app.json").read_text())
    profiles = load(ROOT / "examples" / "polly.yml").profiles
    for volume in app["container"]["volumes"]:
        persistent = volume["persistent"]
        profile = profiles[persistent["profileName"]]
        assert persistent["type"] == "path"
        assert profile.offering is Offering.PATH
        assert profile.minimum_size <= persistent["size"] * MB <= (profile.maximum_size or persistent["size"] * MB)
        assert "/" not in volume["containerPath"]


def test_the_least_configuration_in_the_readme_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "polly.yml"
    file.write_text(textwrap.dedent(block))
    assert load(file).profiles["gold"].service == "local"


@pytest.mark.parametrize("output", ["table", "json"])
def test_the_example_configuration_passes_polly_config_check(output: str) -> None:
    checked = CliRunner().invoke(check, [str(ROOT / "examples" / "polly.yml"), "--format", output])
    assert checked.exit_code == 0, checked.output
    assert yaml.safe_load(checked.stdout)["profiles"]["gold"]["filesystem"] == "xfs"


def test_the_readme_names_only_what_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", readme)
    assert linked
    assert [path for path in linked if not (ROOT / path).exists()] == []
