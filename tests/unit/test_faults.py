"""Fault points act when they are armed, and the catalogue names exactly those that are in the code."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from polly_mesos import faults
from polly_mesos.errors import ConfigurationError, PlatformError, PlatformFull, PlatformUnavailable, UnsafeFormat
from polly_mesos.fault_catalogue import CATALOGUE
from polly_mesos.faults import EXIT_STATUS, VARIABLE, InjectedFault, armed, check_environment, fault_point, parse
from polly_mesos.scheduler.placement import AgentFacts, ExecutorSettings, launch

ROOT = Path(__file__).parents[2]
POINT, OTHER = "volume.create.before-call", "volume.create.after-call"


@pytest.fixture(autouse=True)
def nothing_is_armed_afterwards() -> Iterator[None]:
    yield
    faults._faults.arm(())


# The catalogue and the code -------------------------------------------------------------------------------------


def points_in(source: str, name: str = "") -> Iterator[str]:
    """The names of all fault points in a module's source.

    One in a function that is told the ``kind`` of its work stands for one point of each kind that the module names.
    """
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        for call in _calls(function, "fault_point"):
            (argument,) = call.args
            if isinstance(argument, ast.Constant):
                yield str(argument.value)
            else:
                yield from _points_of_each_kind(argument, function, tree, f"{name}, line {call.lineno}")


def _points_of_each_kind(argument: ast.expr, function: ast.AST, tree: ast.AST, where: str) -> Iterator[str]:
    assert isinstance(argument, ast.JoinedStr), f"{where}: a fault point without a literal name"
    kind, place = argument.values
    assert isinstance(kind, ast.FormattedValue), where
    assert isinstance(kind.value, ast.Name), where
    assert kind.value.id == "kind", where
    assert isinstance(place, ast.Constant), where
    assert isinstance(function, ast.FunctionDef)
    kinds = {ast.literal_eval(call.args[0]) for call in _calls(tree, function.name)}
    assert kinds, f"{where}: nobody calls {function.name}"
    for one in sorted(kinds):
        yield f"{one}{place.value}"


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
            yield node


def test_every_fault_point_is_in_the_code_once_and_in_the_catalogue() -> None:
    found: Counter[str] = Counter()
    for folder in ("polly_mesos", "drivers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name != "faults.py":
                found.update(points_in(path.read_text(), str(path)))
    assert {name: times for name, times in found.items() if times > 1} == {}
    assert sorted(found) == sorted(CATALOGUE)


def test_the_names_are_read_as_python_would_call_them() -> None:
    source = """
class A:
    def one(self):
        fault_point("a.b.c")
        self._do("x.y", 1)
        self._do("x.z", 2)

    def _do(self, kind, number):
        fault_point(f"{kind}.before-call")
"""
    assert list(points_in(source)) == ["a.b.c", "x.y.before-call", "x.z.before-call"]


def test_every_description_says_what_is_done_and_what_is_not_in_one_sentence() -> None:
    for point in CATALOGUE.values():
        assert point.description.endswith("."), point
        assert point.name.count(".") == 2, point


# Actions --------------------------------------------------------------------------------------------------------


def test_an_unarmed_fault_point_does_nothing() -> None:
    fault_point(POINT)
    with armed(OTHER, "raise"):
        fault_point(POINT)
    fault_point(OTHER)


def test_an_unexpected_exception_is_no_error_of_polly() -> None:
    with armed(POINT, "raise"), pytest.raises(InjectedFault, match=POINT):
        fault_point(POINT)


def test_an_error_is_raised_by_its_name() -> None:
    with armed(POINT, "raise:PlatformFull"), pytest.raises(PlatformFull) as raised:
        fault_point(POINT)
    assert not raised.value.outcome_unknown
    with armed(POINT, "raise:UnsafeFormat"), pytest.raises(UnsafeFormat):
        fault_point(POINT)


def test_an_error_after_a_call_leaves_its_outcome_unknown() -> None:
    with armed(OTHER, "raise:PlatformError"), pytest.raises(PlatformError) as raised:
        fault_point(OTHER)
    assert raised.value.outcome_unknown


def test_a_fault_acts_from_a_pass_on_and_so_many_times() -> None:
    def acts() -> bool:
        try:
            fault_point(POINT)
        except InjectedFault:
            return True
        return False

    with armed(POINT, "raise@3*2") as fault:
        assert [acts() for _ in range(6)] == [False, False, True, True, False, False]
    assert (fault.passes, fault.fired) == (6, 2)


def test_a_test_may_do_anything_at_a_fault_point() -> None:
    seen: list[str] = []
    with armed(POINT, lambda: seen.append("outer")):
        with armed(POINT, lambda: seen.append("inner")):
            fault_point(POINT)
        fault_point(POINT)
    fault_point(POINT)
    assert seen == ["inner", "outer"]


def test_a_delay_ends_by_itself() -> None:
    begun = time.monotonic()
    with armed(POINT, "delay:0.05"):
        fault_point(POINT)
    assert time.monotonic() - begun >= 0.05


def test_hanging_ends_after_its_time() -> None:
    begun = time.monotonic()
    with armed(POINT, "hang:0.05"):
        fault_point(POINT)
    assert time.monotonic() - begun >= 0.05


def test_hanging_ends_when_the_fault_is_disarmed() -> None:
    gone_on = threading.Event()
    hangs = threading.Event()

    def pass_by() -> None:
        fault_point(POINT)
        gone_on.set()

    with armed(POINT, "hang") as fault:
        thread = threading.Thread(target=pass_by)
        thread.start()
        deadline = time.monotonic() + 10
        while not fault.fired:
            assert time.monotonic() < deadline
            hangs.wait(0.001)
        assert not gone_on.is_set()
    assert gone_on.wait(10)
    thread.join()


def test_firing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with armed(POINT, "raise"), pytest.raises(InjectedFault):
        fault_point(POINT)
    assert f"fault point {POINT} acts, at pass 1" in caplog.text


@pytest.mark.parametrize(("action", "lines"), [("exit", []), ("exit:3", ["1", "2"]), ("exit@2", ["1"])])
def test_exiting_is_like_being_killed(action: str, lines: list[str]) -> None:
    program = f"""
import atexit
from polly_mesos.faults import check_environment, fault_point
atexit.register(print, "never")
check_environment()
for number in range(1, 5):
    try:
        fault_point({POINT!r})
    finally:
        print(number, flush=True)
"""
    environment = {**os.environ, VARIABLE: f"{POINT}={action}"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, ran.stdout.split()) == (EXIT_STATUS, lines), ran.stderr


# The environment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("volume.create.aftercall=exit", "did you mean volume.create.after-call"),
        (f"{POINT}=exti", "did you mean exit"),
        (f"{POINT}=raise:PlatformFul", "did you mean PlatformFull"),
        (f"{POINT}=raise:Mapping", "name a class of polly_mesos.errors"),
        (f"{POINT}=delay", "write for example delay:0.5"),
        (f"{POINT}=delay:soon", "write for example delay:0.5"),
        (f"{POINT}=hang:-1", "needs a number of seconds"),
        (f"{POINT}=delay:nan", "needs a number of seconds"),
        (f"{POINT}=exit:x", "exit takes the number of a pass"),
        (f"{POINT}=exit:2@3", "exit takes the number of a pass"),
        (f"{POINT}=raise@0", "count from 1"),
        (f"{POINT}=raise*0", "count from 1"),
        (POINT, "write NAME=ACTION"),
        (f"{POINT}=raise raise", "write NAME=ACTION"),
        (f"{POINT}=raise;{POINT}=exit", "armed twice"),
    ],
)
def test_a_mistake_is_refused_with_what_was_meant(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_environment({VARIABLE: text})
    assert said in str(refused.value)
    assert refused.value.field == VARIABLE
    fault_point(POINT)


def test_several_faults_are_armed_loudly(caplog: pytest.LogCaptureFixture) -> None:
    found = check_environment({VARIABLE: f" {POINT} = raise ; {OTHER}=raise:PlatformUnavailable;"})
    assert [fault.name for fault in found] == [POINT, OTHER]
    assert caplog.text.count("FAULT ARMED") == 2
    with pytest.raises(InjectedFault):
        fault_point(POINT)
    with pytest.raises(PlatformUnavailable):
        fault_point(OTHER)


@pytest.mark.parametrize("environment", [{}, {VARIABLE: " "}])
def test_nothing_is_armed_by_an_empty_variable(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert check_environment(environment) == ()
    assert caplog.text == ""


def test_the_fault_of_a_test_comes_before_the_environments() -> None:
    check_environment({VARIABLE: f"{POINT}=raise"})
    with armed(POINT, lambda: None):
        fault_point(POINT)
    with pytest.raises(InjectedFault):
        fault_point(POINT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "faults"


def write(file: Path, text: str) -> None:
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.replace(file)


def test_a_file_arms_and_disarms_running_processes(file: Path) -> None:
    check_environment({VARIABLE: f"@{file}"})
    fault_point(POINT)
    write(file, f"# what is tried now\n\n{POINT}=raise\n{OTHER}=raise:PlatformFull\n")
    with pytest.raises(InjectedFault):
        fault_point(POINT)
    with pytest.raises(PlatformFull):
        fault_point(OTHER)
    write(file, f"{OTHER}=raise:PlatformFull\n")
    fault_point(POINT)
    file.unlink()
    fault_point(OTHER)


def test_what_stays_in_the_file_keeps_its_count(file: Path) -> None:
    write(file, f"{POINT}=raise*1")
    check_environment({VARIABLE: f"@{file}"})
    with pytest.raises(InjectedFault):
        fault_point(POINT)
    write(file, f"{POINT}=raise*1\n{OTHER}=raise")
    fault_point(POINT)


def test_a_mistake_in_the_file_is_refused_at_the_start_and_told_later(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, "nonsense")
    with pytest.raises(ConfigurationError, match="nonsense"):
        check_environment({VARIABLE: f"@{file}"})
    write(file, f"{POINT}=raise")
    check_environment({VARIABLE: f"@{file}"})
    write(file, f"{POINT}=rais")
    fault_point(POINT)
    assert "did you mean raise" in caplog.text
    write(file, f"{POINT}=raise*2")
    with pytest.raises(InjectedFault):
        fault_point(POINT)


def test_hanging_ends_when_the_file_is_emptied(file: Path) -> None:
    write(file, f"{POINT}=hang")
    check_environment({VARIABLE: f"@{file}"})
    thread = threading.Thread(target=fault_point, args=(POINT,))
    thread.start()
    write(file, "")
    thread.join(10)
    assert not thread.is_alive()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        check_environment({VARIABLE: f"@{tmp_path}"})


def test_parsing_arms_nothing() -> None:
    (fault,) = parse(f"{POINT}=raise@2*3")
    assert (fault.first, fault.times) == (2, 3)
    fault_point(POINT)


@pytest.mark.parametrize("half", ["executor", "scheduler"])
def test_both_halves_refuse_a_mistake_at_their_start(half: str, tmp_path: Path) -> None:
    serve = ["-c", "from polly_mesos.cli.main import main; main()", "serve", "--config", str(_config(tmp_path))]
    command = serve if half == "scheduler" else ["-m", "polly_mesos.executor"]
    environment = {**os.environ, VARIABLE: "volume.create.aftercall=exit"}
    ran = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == ConfigurationError.exit_code, ran.stderr
    assert "did you mean volume.create.after-call" in ran.stderr
    assert "Traceback" not in ran.stderr


def _config(directory: Path) -> Path:
    path = directory / "polly.yml"
    path.write_text(
        f"cluster: demo\n"
        f"mesos: {{master: '127.0.0.1:1'}}\n"
        f"ledger: {{path: {directory}/ledger.db}}\n"
        f"services: {{local: {{driver: directory, directory: {directory}}}}}\n"
        f"profiles: {{gold: {{service: local, capacity: 1GiB}}}}\n"
    )
    return path


def test_what_is_armed_in_the_scheduler_half_reaches_the_executors_it_launches() -> None:
    agent = AgentFacts("S0", "host", "10.0.0.7:5051", {})
    settings = ExecutorSettings("polly", 0.1, 128 << 20, "python3", "root", "http://s/p.pyz", {VARIABLE: "@/faults"})
    (task,) = launch(agent, settings, "polly.S0.1", "polly", None)["launch"]["task_infos"]
    assert task["executor"]["command"]["environment"] == {"variables": [{"name": VARIABLE, "value": "@/faults"}]}
    (task,) = launch(agent, replace(settings, environment={}), "polly.S0.1", "polly", None)["launch"]["task_infos"]
    assert "environment" not in task["executor"]["command"]
