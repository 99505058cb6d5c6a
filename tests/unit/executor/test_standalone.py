"""`polly agent`: the executor half beside an agent that does not launch it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from polly_mesos.cli.agent import agent
from polly_mesos.errors import ConfigurationError
from polly_mesos.executor.run import read_token


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "executor-token"
    path.write_text("the-token\n")
    path.chmod(0o600)
    return path


def test_the_token_is_read_from_a_file_of_the_owner(token_file: Path) -> None:
    assert read_token(token_file) == "the-token"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_token_that_others_can_reach_is_refused(token_file: Path, mode: int) -> None:
    token_file.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 0600 {token_file}"):
        read_token(token_file)


def test_a_missing_or_empty_token_is_named(token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no-such-file"):
        read_token(tmp_path / "no-such-file")
    token_file.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        read_token(token_file)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs --agent HOST:PORT and --token-file FILE"),
        (["--agent", "10.0.0.7"], "is not HOST:PORT"),
        (["--agent", "10.0.0.7:99999"], "is not HOST:PORT"),
        (["--agent", "10.0.0.7:5051"], "needs --agent HOST:PORT and --token-file FILE"),
        (["--agent", "10.0.0.7:5051", "list"], "belong to the running half"),
    ],
)
def test_bad_arguments_say_what_is_needed(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(agent, arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_sigterm_ends_it_while_nobody_answers(token_file: Path) -> None:
    command = [
        *(sys.executable, "-c", "from polly_mesos.cli.main import main; main()", "agent", "--agent", "127.0.0.1:1"),
        *("--scheduler", "http://127.0.0.1:1", "--token-file", str(token_file)),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline()]
        process.terminate()
        lines += process.stderr.readlines()
        assert process.wait(20) == 0
    assert "the agent at 127.0.0.1:1 cannot be asked who it is" in lines[0]
    assert "what is mounted stays mounted" in "".join(lines)
    assert "the-token" not in "".join(lines)


def test_started_by_hand_the_artifact_says_that_only_an_agent_starts_it() -> None:
    command = [sys.executable, "-m", "polly_mesos.executor"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESOS_")}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == ConfigurationError.exit_code
    assert "Only a Mesos agent can start an executor" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_old_python_is_told_what_is_needed() -> None:
    program = (
        "import sys, runpy; sys.version_info = (3, 9, 2, 'final', 0); "
        "sys.argv = ['polly-executor']; runpy.run_module('polly_mesos.executor.__main__', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert result.returncode == 1
    assert result.stderr.startswith("polly executor: needs Python 3.11 or later, but ")
    assert "is 3.9.2" in result.stderr
    assert "Traceback" not in result.stderr
