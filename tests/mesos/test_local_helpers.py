"""The helpers that the packages lack, as tasks on the real agent meet them."""

from __future__ import annotations

import http.server
import re
import socketserver
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from polly_mesos.mesos.local.cluster import LocalCluster

from .framework import Framework, wait_until

pytestmark = pytest.mark.mesos


@pytest.fixture(scope="module")
def framework(cluster: LocalCluster) -> Iterator[Framework]:
    with Framework(cluster.master, capabilities=[{"type": "TASK_KILLING_STATE"}]) as framework:
        yield framework


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server for the test's directory; its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def sandboxes(cluster: LocalCluster, task: str) -> list[Path]:
    pattern = f"slaves/*/frameworks/*/executors/{task}/runs/latest"
    return [path.resolve() for agent in cluster.agents for path in agent.work_dir.glob(pattern)]


def sandbox(cluster: LocalCluster, task: str) -> Path:
    """The task's sandbox on whichever agent it is; waits until there is one."""
    return wait_until(lambda: sandboxes(cluster, task))[0]


def uri(value: str, **fields: Any) -> dict[str, Any]:
    return {"value": value, **fields}


def command(shell: str, *uris: dict[str, Any]) -> dict[str, Any]:
    return {"command": {"value": shell, "uris": list(uris)}}


# ---- mesos-executor


def test_a_command_runs_in_its_sandbox_with_its_environment(cluster: LocalCluster, framework: Framework) -> None:
    variables = {"variables": [{"name": "COLOUR", "value": "deep blue"}]}
    script = 'echo "$COLOUR" > said; pwd > where; env > environment'
    framework.run("environment", "", command={"value": script, "environment": variables})
    assert framework.wait_for("environment", "TASK_FINISHED")["message"] == "Command exited with status 0"
    place = sandbox(cluster, "environment")
    assert (place / "said").read_text() == "deep blue\n"
    assert Path((place / "where").read_text().strip()).samefile(place)
    environment = (place / "environment").read_text()
    assert "MESOS_SANDBOX=" in environment
    assert "MESOS_ALLOCATION_ROLE=test\n" in environment
    assert "LD_LIBRARY_PATH" not in environment, "a task must not load the libraries of Mesos"
    assert (place / "stderr").read_text().count("no version information") == 0


def test_a_command_without_a_shell_gets_its_arguments_as_they_are(cluster: LocalCluster, framework: Framework) -> None:
    arguments = ["the name", "-c", 'echo "$0|$1" > said', "a  b", "$HOME"]
    framework.run("argv", "", command={"shell": False, "value": "/bin/sh", "arguments": arguments})
    framework.wait_for("argv", "TASK_FINISHED")
    assert (sandbox(cluster, "argv") / "said").read_text() == "a  b|$HOME\n"


def test_a_failing_command_reports_its_exit_status(framework: Framework) -> None:
    framework.run("fails", "exit 3")
    assert framework.wait_for("fails", "TASK_FAILED")["message"] == "Command exited with status 3"
    assert [status["state"] for status in framework.updates("fails")] == [
        "TASK_STARTING",
        "TASK_RUNNING",
        "TASK_FAILED",
    ]


def test_a_crashing_command_reports_its_signal(framework: Framework) -> None:
    framework.run("crashes", "kill -SEGV $$")
    assert framework.wait_for("crashes", "TASK_FAILED")["message"].startswith("Command terminated with signal Segment")


def test_a_program_that_does_not_exist_fails_with_its_name(framework: Framework) -> None:
    framework.run("missing", "", command={"shell": False, "value": "/no/such/program", "arguments": ["program"]})
    assert "/no/such/program" in framework.wait_for("missing", "TASK_FAILED")["message"]


def test_a_killed_task_may_clean_up_within_the_grace_period(cluster: LocalCluster, framework: Framework) -> None:
    task = framework.run("polite", "trap 'echo bye > bye; exit 0' TERM; touch ready; while :; do sleep 0.05; done")
    wait_until((sandbox(cluster, "polite") / "ready").exists)
    framework.kill(task, grace_seconds=20)
    assert framework.wait_for("polite", "TASK_KILLED")["message"] == "Command exited with status 0"
    assert "TASK_KILLING" in [status["state"] for status in framework.updates("polite")]
    assert (sandbox(cluster, "polite") / "bye").exists()


def test_a_task_that_ignores_its_end_is_killed_after_the_grace_period(
    cluster: LocalCluster, framework: Framework
) -> None:
    task = framework.run("stubborn", "trap '' TERM; touch ready; while :; do sleep 0.05; done")
    wait_until((sandbox(cluster, "stubborn") / "ready").exists)
    begin = time.monotonic()
    framework.kill(task, grace_seconds=1)
    assert framework.wait_for("stubborn", "TASK_KILLED")["message"] == "Command terminated with signal Killed"
    assert time.monotonic() - begin >= 1


def test_a_second_kill_can_bring_the_end_forward(cluster: LocalCluster, framework: Framework) -> None:
    task = framework.run("hurried", "trap '' TERM; touch ready; while :; do sleep 0.05; done")
    wait_until((sandbox(cluster, "hurried") / "ready").exists)
    framework.kill(task, grace_seconds=3600)
    framework.wait_for("hurried", "TASK_KILLING")
    framework.kill(task, grace_seconds=0)
    framework.wait_for("hurried", "TASK_KILLED")


def test_what_a_task_leaves_behind_ends_with_it(cluster: LocalCluster, framework: Framework) -> None:
    framework.run("parent", "sleep 1000 & echo $! > child")
    framework.wait_for("parent", "TASK_FINISHED")
    child = int((sandbox(cluster, "parent") / "child").read_text())
    wait_until(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())


def test_a_task_over_its_time_fails_with_that_reason(framework: Framework) -> None:
    framework.run("slow", "sleep 1000", max_completion_time={"nanoseconds": 300_000_000})
    framework.wait_for("slow", "TASK_FAILED", reason="REASON_MAX_COMPLETION_TIME_REACHED")


def test_a_general_check_is_refused_and_not_ignored(framework: Framework) -> None:
    framework.run("checked", "sleep 1000", check={"type": "TCP", "tcp": {"port": 1}})
    assert "use a health check" in framework.wait_for("checked", "TASK_FAILED")["message"]


def test_an_end_while_the_agent_is_down_is_told_when_it_is_back(cluster: LocalCluster, framework: Framework) -> None:
    agent = cluster.agents[0]
    agent_id = cluster.status().agents[0].agent_id
    framework.run("unseen", "touch ready; while [ ! -e go ]; do sleep 0.05; done; exit 7", agent_id)
    place = sandbox(cluster, "unseen")
    wait_until((place / "ready").exists)
    framework.wait_for("unseen", "TASK_RUNNING")
    agent.kill()
    (place / "go").touch()
    agent.start()
    assert framework.wait_for("unseen", "TASK_FAILED")["message"] == "Command exited with status 7"


# ---- health checks

HEALTH = {
    "delay_seconds": 0,
    "interval_seconds": 0.1,
    "timeout_seconds": 5,
    "grace_period_seconds": 0,
    "consecutive_failures": 2,
}


def test_health_follows_a_command_until_it_kills_the_task(cluster: LocalCluster, framework: Framework) -> None:
    check = {**HEALTH, "type": "COMMAND", "command": {"value": "test -e well"}}
    framework.run("patient", "touch well; sleep 1000", health_check=check)
    framework.wait_for("patient", "TASK_RUNNING", healthy=True, reason="REASON_TASK_HEALTH_CHECK_STATUS_UPDATED")
    (sandbox(cluster, "patient") / "well").unlink()
    framework.wait_for("patient", "TASK_RUNNING", healthy=False)
    framework.wait_for("patient", "TASK_KILLED", healthy=False)


def test_failures_within_the_grace_period_are_not_reported(cluster: LocalCluster, framework: Framework) -> None:
    check = {
        **HEALTH,
        "grace_period_seconds": 1000,
        "type": "COMMAND",
        "command": {"value": "echo x >> tries; test -e well"},
    }
    framework.run("slow-start", "sleep 1000", health_check=check)
    place = sandbox(cluster, "slow-start")
    wait_until(lambda: (place / "tries").exists() and len((place / "tries").read_text()) >= 6)
    (place / "well").touch()
    framework.wait_for("slow-start", "TASK_RUNNING", healthy=True)
    assert False not in [status.get("healthy") for status in framework.updates("slow-start")]


def test_health_over_http(web: str, tmp_path: Path, framework: Framework) -> None:
    (tmp_path / "health").write_text("fine")
    check = {**HEALTH, "type": "HTTP", "http": {"port": int(web.rpartition(":")[2]), "path": "/health"}}
    framework.run("web", "sleep 1000", health_check=check)
    framework.wait_for("web", "TASK_RUNNING", healthy=True)
    (tmp_path / "health").unlink()
    framework.wait_for("web", "TASK_KILLED", healthy=False)


def test_health_over_tcp(framework: Framework) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        check = {**HEALTH, "type": "TCP", "tcp": {"port": server.server_address[1]}}
        framework.run("tcp", "sleep 1000", health_check=check)
        framework.wait_for("tcp", "TASK_RUNNING", healthy=True)
    framework.wait_for("tcp", "TASK_KILLED", healthy=False)


# ---- mesos-fetcher


def test_files_come_over_http_and_from_disk(
    cluster: LocalCluster, framework: Framework, web: str, tmp_path: Path
) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho tool ran\n")
    (tmp_path / "data").write_text("data")
    uris = [uri(f"{web}/tool", executable=True), uri(f"file://{tmp_path}/data", output_file="deep/er/data.txt")]
    framework.run("fetches", "", **command("./tool && cat deep/er/data.txt", *uris))
    framework.wait_for("fetches", "TASK_FINISHED")
    place = sandbox(cluster, "fetches")
    assert "tool ran\ndata" in (place / "stdout").read_text()
    assert (place / "tool").stat().st_mode & 0o777 == 0o755
    assert not (place / "deep/er/data.txt").stat().st_mode & 0o111


def test_archives_are_unpacked_unless_asked_not_to(
    cluster: LocalCluster, framework: Framework, web: str, tmp_path: Path
) -> None:
    (tmp_path / "inside").write_text("from the archive")
    with tarfile.open(tmp_path / "files.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "inside", "inside")
    framework.run("unpacks", "", **command("cat inside", uri(f"{web}/files.tar.gz")))
    framework.wait_for("unpacks", "TASK_FINISHED")
    framework.run(
        "keeps", "", **command("test ! -e inside && tar tzf files.tar.gz", uri(f"{web}/files.tar.gz", extract=False))
    )
    framework.wait_for("keeps", "TASK_FINISHED")


def test_a_cached_uri_is_downloaded_once(cluster: LocalCluster, framework: Framework, web: str, tmp_path: Path) -> None:
    agent_id = cluster.status().agents[0].agent_id
    (tmp_path / "cached").write_text("once")
    for name in ("first", "second"):
        framework.run(name, "", agent_id, **command("cat cached", uri(f"{web}/cached", cache=True)))
        framework.wait_for(name, "TASK_FINISHED")
        (tmp_path / "cached").write_text("xxxx")
    assert "once" in (sandbox(cluster, "second") / "stdout").read_text()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("http://127.0.0.1:1/tool", "cannot fetch http://127.0.0.1:1/tool: [Errno 111] Connection refused"),
        ("{web}/absent", "/absent: the server answered 404 File not found"),
        ("file:///no/such/file", "cannot fetch file:///no/such/file: [Errno 2] No such file or directory"),
        ("hdfs://host/file", "cannot fetch hdfs://host/file: hdfs: is not supported here"),
        ("relative/file", "cannot fetch relative/file: it is a relative path, and the agent has no frameworks_home"),
        ("{web}/broken.tar.gz", "/broken.tar.gz: broken.tar.gz is not the archive that its name says"),
    ],
)
def test_what_cannot_be_fetched_fails_the_task_and_says_why(
    cluster: LocalCluster, framework: Framework, web: str, tmp_path: Path, value: str, said: str
) -> None:
    (tmp_path / "broken.tar.gz").write_text("no archive")
    name = "unfetched-" + re.sub(r"\W", "", value)
    framework.run(name, "", **command("true", uri(value.format(web=web))))
    assert "Failed to fetch all URIs" in framework.wait_for(name, "TASK_FAILED")["message"]
    assert said in (sandbox(cluster, name) / "stderr").read_text()


@pytest.mark.root
def test_a_task_cannot_fetch_what_its_user_cannot_read(
    cluster: LocalCluster, framework: Framework, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("for root only")
    secret.chmod(0o600)
    whole = command("true", uri(f"file://{secret}"))
    whole["command"]["user"] = "nobody"
    framework.run("curious", "", **whole)
    assert "Failed to fetch all URIs" in framework.wait_for("curious", "TASK_FAILED")["message"]
    assert "Permission denied" in (sandbox(cluster, "curious") / "stderr").read_text()
