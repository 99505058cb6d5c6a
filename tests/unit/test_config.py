"""What an operator sees of polly.yml: what the settings mean, and what is said of mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.loop.controller import LoopController
from polly_mesos.config import Configuration, ConfigurationErrors, Fencing, Isolation, Policy, describe, load
from polly_mesos.errors import ConfigurationError
from polly_mesos.model import MB, Filesystem, Offering, Reclaim
from polly_mesos.plugins import installed_drivers

GIB = 1024 * MB
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*polly.yml"))

SMALL = """\
cluster: demo
mesos:
  master: 127.0.0.1:5050
services:
  local:
    driver: loop
    directory: /var/lib/polly/images
    capacity: 10GiB
profiles:
  gold:
    service: local
"""

Load = Callable[[str], Configuration]
Mistakes = Callable[[str], list[str]]


@pytest.fixture
def loads(tmp_path: Path) -> Load:
    def load_text(text: str, **environment: str) -> Configuration:
        path = tmp_path / "polly.yml"
        path.write_text(text)
        return load(path, environment)

    return load_text


@pytest.fixture
def mistakes(loads: Load, tmp_path: Path) -> Mistakes:
    """The lines of the error that a text causes, without the directory."""

    def find(text: str) -> list[str]:
        with pytest.raises(ConfigurationErrors) as caught:
            loads(text)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return find


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_right(path: Path) -> None:
    named = re.findall(r"\$\{(\w+)\}", path.read_text())  # where secrets come from
    load(path, dict.fromkeys(named, "value"))


def test_there_are_examples() -> None:
    assert [path.name for path in EXAMPLES if path.name == "polly.yml"] == ["polly.yml"]


def test_a_small_file_has_sensible_defaults(loads: Load, tmp_path: Path) -> None:
    configuration = loads(SMALL)
    assert configuration.cluster == "demo"
    assert (configuration.mesos.name, configuration.mesos.role, configuration.mesos.user) == ("polly", "polly", "")
    assert configuration.mesos.failover_timeout == 7 * 24 * 3600
    assert configuration.http.address == ("127.0.0.1", 7979)
    assert configuration.http.url == "http://127.0.0.1:7979"
    assert configuration.ledger.path == Path("/var/lib/polly/ledger.db")
    assert configuration.agents.isolation is Isolation.AUTO
    assert configuration.agents.admits("any", {})
    assert configuration.services["local"].driver.name == "loop"
    assert configuration.services["local"].settings.directory == "/var/lib/polly/images"
    assert configuration.planner.policy is Policy.LEASE
    assert (configuration.services["local"].fencing, configuration.agents.fence_after) == (None, 60)
    assert not configuration.profiles["gold"].adopt
    assert (configuration.check.interval, configuration.ledger.retention) == (60, 30 * 86400)
    gold = configuration.profiles["gold"]
    assert (gold.filesystem, gold.offering, gold.reclaim) == (Filesystem.EXT4, Offering.PATH, Reclaim.DELETE)
    assert configuration.pool_capacity(gold) == 10 * GIB


def test_every_setting_arrives(loads: Load, tmp_path: Path) -> None:
    configuration = loads("""\
cluster: demo
mesos: {master: "zk://zk1:2181,zk2:2181/mesos", name: storage, role: infra/polly, user: root, failover_timeout: 1h30m,
        webui_url: "http://polly:80/"}
http: {listen: "0.0.0.0:80", advertise: "http://polly.example.org/"}
ledger: {path: data/ledger.db}
agents:
  constraints: [{attribute: rack, in: [r1, r2]}, {hostname: true, matches: 'db-\\d+'}, {attribute: os, equals: linux}]
  volume_root: "/mnt/{hostname}/{port}/"
  cpus: 0.5
  mem: 64MiB
  python: /usr/bin/python3.12
  isolation: posix
  unpublish_grace: 0s
  settle: 500ms
  fence_after: 0s
  allow_scratch: true
services:
  shelf: {driver: directory, directory: /srv, zone: east, fencing: operator}
profiles:
  files: {service: shelf, reclaim: retain, offer: raw, minimum_size: 5MB, maximum_size: 1.5GiB, zone: east, type: big,
          iops: 300, encryption: true, adopt: true, capacity: 2GB}
planner: {policy: shared, interval: 1s, rotate: 1m, big_share: 0.25, low_water: 0.1}
""")
    assert configuration.mesos.master == "zk://zk1:2181,zk2:2181/mesos"
    assert configuration.mesos.failover_timeout == 5400
    assert configuration.mesos.webui_url == "http://polly:80"
    assert configuration.http.url == "http://polly.example.org"
    assert configuration.ledger.path == tmp_path / "data/ledger.db"
    assert configuration.agents.root_on("db-1", 5051) == "/mnt/db-1/5051"
    assert configuration.agents.mem == 64 * MB
    assert (configuration.agents.unpublish_grace, configuration.agents.settle) == (0.0, 0.5)
    assert configuration.agents.admits("db-1", {"rack": "r2", "os": "linux"})
    assert not configuration.agents.admits("db-1x", {"rack": "r2", "os": "linux"})
    assert not configuration.agents.admits("db-1", {"rack": "r3", "os": "linux"})
    assert not configuration.agents.admits("db-1", {"rack": "r1"})
    files = configuration.profiles["files.east"]
    assert (files.filesystem, files.pool, files.platform_type) == (Filesystem.NONE, "files.east", "big")
    assert (files.minimum_size, files.maximum_size) == (5_000_000, 1536 * MB)
    assert (files.iops, files.encryption, files.reclaim, files.offering) == (300, True, Reclaim.RETAIN, Offering.RAW)
    assert configuration.pool_capacity(files) == 2_000_000_000
    assert (configuration.services["shelf"].fencing, configuration.agents.fence_after, files.adopt) == (
        Fencing.OPERATOR,
        0,
        True,
    )
    described = describe(configuration)
    assert (described["services"]["shelf"]["fencing"], described["profiles"]["files.east"]["adopt"]) == (
        "operator",
        True,
    )
    assert (configuration.planner.policy, configuration.planner.rotate) == (Policy.SHARED, 60)


def test_profiles_without_a_capacity_share_what_the_others_leave(loads: Load) -> None:
    configuration = loads(SMALL + "    capacity: 4GiB\n  silver: {service: local}\n  bronze: {service: local}\n")
    capacities = {name: configuration.pool_capacity(profile) for name, profile in configuration.profiles.items()}
    assert capacities == {"gold": 4 * GIB, "silver": 3 * GIB, "bronze": 3 * GIB}


def test_the_only_profile_of_a_service_without_capacity_is_limited_by_the_platform_alone(loads: Load) -> None:
    configuration = loads(SMALL.replace("    capacity: 10GiB\n", ""))
    assert configuration.pool_capacity(configuration.profiles["gold"]) is None


def test_values_come_from_the_environment(loads: Load) -> None:
    text = SMALL.replace("127.0.0.1:5050", "${MASTER}:5050").replace("10GiB", "${SIZE}")
    configuration = loads(text, MASTER="m.example.org", SIZE="3GiB")
    assert configuration.mesos.master == "m.example.org:5050"
    assert configuration.pool_capacity(configuration.profiles["gold"]) == 3 * GIB


def test_anchors_and_merges_work(loads: Load) -> None:
    text = SMALL + "    <<: &base {reclaim: retain, capacity: 1GiB}\n  silver: {<<: *base, service: local}\n"
    assert loads(text).profiles["silver"].reclaim is Reclaim.RETAIN


def test_all_mistakes_are_told_at_once_each_with_its_line(mistakes: Mistakes) -> None:
    assert mistakes("""\
cluster: Demo
mesos:
  mastre: 127.0.0.1:5050
services:
  local:
    driver: lop
  disk:
    driver: loop
    directory: images
    capacity: 0GiB
profiles:
  gold:
    service: locale
    filesystem: ext5
  silver:
    service: disk
    filesystem: xfs
    minimum_size: 10MiB
    maximum_size: -1GiB
""") == [
        "polly.yml:1: cluster: 'Demo' is not an allowed name (use small letters, digits and hyphens, beginning and"
        " ending with a letter or digit)",
        "polly.yml:2: mesos.master: is missing (write master: VALUE)",
        "polly.yml:3: mesos.mastre: is not known here (did you mean master?)",
        "polly.yml:6: services.local.driver: 'lop' is not a driver that can be used: no driver 'lop' is installed"
        f" (did you mean loop? installed are: {', '.join(sorted(installed_drivers()))})",
        "polly.yml:9: services.disk.directory: 'images' is refused by driver loop: directory must be an absolute path,"
        " and 'images' is not",
        "polly.yml:10: services.disk.capacity: '0GiB' must be greater than zero (write a size as 10GiB)",
        "polly.yml:13: profiles.gold.service: 'locale' is not one of the services (did you mean local?)",
        "polly.yml:14: profiles.gold.filesystem: 'ext5' is not one of the choices (use one of ext4, xfs, none)",
        "polly.yml:18: profiles.silver.minimum_size: '10MiB' is too small for xfs (write 300MiB or more)",
        "polly.yml:19: profiles.silver.maximum_size: '-1GiB' must be greater than zero (write a size as 10GiB)",
    ]


@pytest.mark.parametrize(
    ("replaced", "by", "expected"),
    [
        ("cluster: demo", "cluster: 5", "1: cluster: '5' is not text (put it in quotes)"),
        ("cluster: demo", f"cluster: {'a' * 64}", "is longer than 63 characters"),
        ("cluster: demo\n", "", "1: cluster: is missing"),
        ("127.0.0.1:5050", "127.0.0.1:99999", "3: mesos.master: '127.0.0.1:99999' is not a Mesos master"),
        ("127.0.0.1:5050", "zk://here", "3: mesos.master: 'zk://here' is not a ZooKeeper address"),
        ("5050\n", "5050\n  role: a b\n", "4: mesos.role: 'a b' is not a role name"),
        ("5050\n", "5050\n  webui_url: here\n", "4: mesos.webui_url: 'here' is not a URL"),
        ("5050\n", "5050\n  failover_timeout: 90\n", "4: mesos.failover_timeout: '90' is a duration without a unit"),
        ("5050\n", "5050\n  failover_timeout: 3 weeks\n", "'3 weeks' is not a duration"),
        ("services:", "http: {listen: '0.0.0.0:80'}\nservices:", "4: http.listen: '0.0.0.0:80' is not a loopback addr"),
        ("services:", "http: {listen: here}\nservices:", "4: http.listen: 'here' is not an address with a port"),
        ("services:", "ledger: [1]\nservices:", "4: ledger: is not a mapping of keys to values"),
        ("services:", "agents: {volume_root: a/b}\nservices:", "agents.volume_root: 'a/b' is not an absolute path"),
        ("services:", "agents: {volume_root: '/{host}'}\nservices:", "has an unknown placeholder"),
        ("services:", "agents: {volume_root: /}\nservices:", "is not a directory of Polly's own"),
        ("services:", "agents: {cpus: none}\nservices:", "4: agents.cpus: 'none' is not a number"),
        ("services:", "agents: {isolation: docker}\nservices:", "(use one of auto, linux, posix)"),
        ("services:", "agents: {constraints: [{in: [a]}]}\nservices:", "agents.constraints[0]: must test one thing"),
        ("services:", "agents: {constraints: [{attribute: a}]}\nservices:", "constraints[0]: must have one test"),
        (
            "services:",
            "agents: {constraints: [{equal: a}]}\nservices:",
            "[0].equal: is not known here (did you mean eq",
        ),
        ("services:", "agents: {constraints: {}}\nservices:", "agents.constraints: is not a list"),
        (
            "services:",
            "planner: {policy: fair}\nservices:",
            "planner.policy: 'fair' is not one of the choices (use one",
        ),
        ("services:", "serivces: 3\nservices:", "4: serivces: is not known here (did you mean services?)"),
        ("    capacity", "    fencing: maybe\n    capacity", "8: services.local.fencing: 'maybe' is not one of the ch"),
        ("services:", "agents: {fence_after: 60}\nservices:", "agents.fence_after: '60' is a duration without a unit"),
        ("service: local\n", "service: local\n    adopt: maybe\n", "12: profiles.gold.adopt: 'maybe' is neither true"),
        ("local", "Local_1", "5: services.Local_1: is not an allowed name"),
        ("    directory: /var/lib/polly/images\n", "", "5: services.local.directory: is missing"),
        (
            "directory: /",
            "directry: /a\n    directory: /",
            "7: services.local.directry: is not known here (did you mean directory?)",
        ),
        ("10GiB", "10", "8: services.local.capacity: '10' is a size without a unit (write 10GiB or 10MiB)"),
        ("10GiB", "10G", "does not say whether G counts in 1000s or 1024s (write 10GiB or 10GB)"),
        ("10GiB", "10 gallons", "has an unknown unit 'gallons'"),
        ("10GiB", "much", "'much' is not a size"),
        ("10GiB", "0.3B", "is not a whole number of bytes"),
        ("10GiB", "-10GiB", "must be greater than zero"),
        ("    service: local\n", "", "10: profiles.gold.service: is missing"),
        ("  gold:\n    service: local\n", "", "9: profiles: is missing"),
        (
            "service: local\n",
            "service: local\n    minimum_size: 20GiB\n",
            "gold: leaves 10GiB for a pool whose smallest",
        ),
        ("service: local\n", "service: local\n    maximum_size: 1KiB\n", "is less than the smallest volume, 1MiB"),
        ("service: local\n", "service: local\n    mount_options: ['a b']\n", "mount_options[0]: 'a b' has characters"),
        (
            "service: local\n",
            "service: local\n    filesystem: none\n",
            "is not what volumes of service local (driver lo",
        ),
        (
            "service: local\n",
            "service: local\n    encryption: maybe\n",
            "12: profiles.gold.encryption: 'maybe' is neith",
        ),
        ("service: local\n", "service: local\n    iops: 0\n", "12: profiles.gold.iops: '0' is refused"),
        (
            "service: local\n",
            "service: local\n    capacity: 11GiB\n",
            "is, with the other profiles of service local, mor",
        ),
        ("service: local\n", "service: local\n    zone: A/B\n", "profiles.gold.zone: 'A/B' is not a zone's name"),
        ("service: local\n", "service: local\n    service: local\n", "is written twice, first on line 11 (keep one of"),
        ("service: local\n", "service: {a: b}\n", "profiles.gold.service: is not text"),
        (
            "service: local\n",
            "service: local\n    iops: ${IOPS}\n",
            "names the environment variable IOPS, which is not",
        ),
        ("service: local\n", "service: local\n    ? [a]\n    : b\n", "12: profiles.gold: has a key that is not a word"),
    ],
)
def test_a_mistake_says_where_what_and_the_remedy(mistakes: Mistakes, replaced: str, by: str, expected: str) -> None:
    assert replaced in SMALL
    [line] = mistakes(SMALL.replace(replaced, by))
    assert line.startswith("polly.yml:")
    assert expected in line


def test_several_profiles_on_a_service_of_unknown_size_each_need_a_capacity(mistakes: Mistakes) -> None:
    text = SMALL.replace("    capacity: 10GiB\n", "") + "    capacity: 1GiB\n  silver: {service: local}\n"
    [line] = mistakes(text)
    assert "polly.yml:12: profiles.silver.capacity: is missing, and service local has several profiles" in line


def test_a_directory_is_not_formatted_or_mounted(mistakes: Mistakes) -> None:
    text = SMALL.replace("loop", "directory") + "    filesystem: xfs\n    mount_options: [noatime]\n"
    lines = mistakes(text)
    assert "profiles.gold.filesystem: 'xfs' is not what volumes of service local (driver directory)" in lines[0]
    assert "(leave filesystem out)" in lines[0]
    assert mistakes(text.replace("    filesystem: xfs\n", "")) == [
        "polly.yml:12: profiles.gold.mount_options: are given, and this service's volumes are directories, which"
        " nothing mounts (leave them out)"
    ]


def test_a_platform_that_cannot_tell_whether_a_host_is_stopped_is_not_asked(
    mistakes: Mistakes, loads: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SMALL.replace("    capacity", "    fencing: platform\n    capacity")
    assert loads(text).services["local"].fencing is Fencing.PLATFORM
    monkeypatch.setattr(LoopController, "capabilities", frozenset())
    assert mistakes(text) == [
        "polly.yml:8: services.local.fencing: 'platform' is not possible: driver loop cannot tell whether a host is"
        " stopped (write fencing: operator, and fence hosts with `polly agent fence`)"
    ]
    loads(text.replace("fencing: platform", "fencing: operator"))


def test_fencing_by_a_platform_that_does_not_know_the_hosts_is_refused(loads: Load, mistakes: Mistakes) -> None:
    how = "driver: cinder\n    cloud: ours\n    attach_by: cinder\n    fencing: platform"
    text = SMALL.replace("driver: loop\n    directory: /var/lib/polly/images", how)
    (told,) = mistakes(text)
    assert "services.local.fencing: 'platform' is not possible: driver cinder, set up like this, cannot tell" in told
    loads(text.replace("attach_by: cinder", "attach_by: nova"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "polly.yml:1: is empty"),
        ("# nothing\n", "polly.yml:1: is empty"),
        ("- a\n", "polly.yml:1: is not a mapping of keys to values"),
        ("cluster: demo\nmesos: {master: a\nservices:\n", "polly.yml:3: is not YAML"),
        ("cluster: demo\nmesos: 'a\n", "polly.yml:3: is not YAML"),
        ("cluster: demo\nmesos:\n\tmaster: a\n", "polly.yml:3: is indented with a tab"),
        ("cluster: demo\n\x07: a\n", "polly.yml:2: has a character that YAML does not allow"),
        ("cluster: demo\n---\ncluster: other\n", "polly.yml:2: is not YAML"),
        ("cluster: demo\nmesos: &a [*a]\n", "polly.yml:2: is not YAML: an alias that contains itself"),
        ("cluster: *demo\n", "polly.yml:1: is not YAML: found undefined alias"),
    ],
)
def test_what_is_not_yaml_is_said_with_its_line(mistakes: Mistakes, text: str, expected: str) -> None:
    assert mistakes(text)[0].startswith(expected)


def test_aliases_do_not_make_a_small_file_enormous(mistakes: Mistakes) -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "too many values" in mistakes("a0: &a0 [x]\n" + levels)[0]


def test_a_file_that_is_not_there_or_not_text_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.yml: cannot be read: No such file"):
        load(tmp_path / "missing.yml")
    (tmp_path / "polly.yml").write_bytes(b"cluster: demo\nmesos: \xff\n")
    with pytest.raises(ConfigurationErrors, match=r"polly\.yml:2: is not UTF-8 text"):
        load(tmp_path / "polly.yml")


def test_mistakes_can_be_read_by_programs(loads: Load) -> None:
    with pytest.raises(ConfigurationErrors) as caught:
        loads(SMALL.replace("10GiB", "10G"))
    [mistake] = caught.value.mistakes
    assert (mistake.line, mistake.field, mistake.value) == (8, "services.local.capacity", "10G")
    body = json.loads(json.dumps(caught.value.as_json()))
    assert body["mistakes"][0]["remedy"] == "write 10GiB or 10GB"
    assert caught.value.exit_code == 2


def test_looking_for_differences_can_be_turned_off_and_the_record_kept_for_longer(loads: Load) -> None:
    configuration = loads(SMALL + "check: {interval: 0s}\nledger: {retention: 1w}\n")
    assert (configuration.check.interval, configuration.ledger.retention) == (0, 7 * 86400)
    assert describe(configuration)["check"] == {"interval": 0.0}


def test_a_wrong_interval_or_retention_is_told(mistakes: Mistakes) -> None:
    told = mistakes(SMALL + "check: {interval: 60, every: 1s}\nledger: {retention: 0s}\n")
    assert any("check.interval" in line and "without a unit" in line for line in told)
    assert any("check.every" in line and "not known here" in line for line in told)
    assert any("ledger.retention" in line for line in told)


def test_the_description_is_plain_and_complete(loads: Load) -> None:
    description = json.loads(json.dumps(describe(loads(SMALL))))
    assert description["http"]["advertise"] == "http://127.0.0.1:7979"
    assert description["services"]["local"]["capacity"] == 10 * GIB
    assert description["profiles"]["gold"]["filesystem"] == "ext4"
    assert description["profiles"]["gold"]["capacity"] == 10 * GIB
