"""Options of `agl` that no flag gives: from the environment, else from pyproject.toml."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
from agentlightning.cli import main, settings
from agentlightning.cli.program import parser as commands
from agentlightning_server.__main__ import arguments as options_of_server

NOWHERE = "localhost:1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: empty, with nothing set."""
    for variable in [name for name in os.environ if name.startswith("AGL_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, *lines: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text("\n".join(["[tool.agentlightning]", *lines]))
    return path


def set_of(name: str) -> settings.Setting:
    return next(setting for setting in settings.apply(commands()) if setting.name == name)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*(arguments or ("runs", "list"))]) == 2
    return capsys.readouterr().err.rstrip("\n")


def test_a_flag_goes_before_the_environment_and_that_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, 'store = "file:1"')
    parser = commands()
    settings.apply(parser)
    assert parser.parse_args(["runs", "list"]).store == "file:1"
    assert set_of("store").source == f"store in [tool.agentlightning] of {path}"
    monkeypatch.setenv("AGL_STORE", "environment:1")
    settings.apply(parser)
    assert parser.parse_args(["runs", "list"]).store == "environment:1"
    assert parser.parse_args(["runs", "list", "--store", "flag:1"]).store == "flag:1"
    assert set_of("store") == settings.Setting("store", "environment:1", "AGL_STORE")


def test_the_nearest_file_upward_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, 'store = "file:1"')
    (folder / "a/b").mkdir(parents=True)
    monkeypatch.chdir(folder / "a/b")
    assert set_of("store").value == "file:1"
    (folder / "a/pyproject.toml").write_text("[project]\n")
    assert set_of("store") == settings.Setting("store", None, "default")


def test_an_unknown_variable_is_refused_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGL_STOR", NOWHERE)
    assert refusal(capsys) == "agl: there is no setting AGL_STOR; did you mean AGL_STORE?"


def test_an_unknown_key_is_refused_with_the_nearest_one_and_where_it_stands(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, "keep-day = 3")
    where = f"keep-day in [tool.agentlightning] of {path}"
    assert refusal(capsys) == f"agl: there is no setting {where}; did you mean keep-days?"


def test_what_is_like_no_setting_is_refused_with_all_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGL_XYZZY", "1")
    message = refusal(capsys)
    assert "AGL_JSON" in message and "AGL_PORT" in message and "AGL_STORE" in message


def test_a_server_is_told_of_unknown_settings_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGL_PROT", "4748")
    assert refusal(capsys, "store") == "agl: there is no setting AGL_PROT; did you mean AGL_PORT?"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("port = '4748'", "'4748', expected a whole number"),
        ("port = true", "True, expected a whole number"),
        ("json = 'yes'", "'yes', expected true or false"),
        ("db = 1", "1, expected a text"),
        ("keep-days = []", "[], expected a number"),
    ],
)
def test_a_key_of_the_wrong_type_is_refused_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
) -> None:
    path = write(folder, line)
    assert refusal(capsys) == f"agl: {line.split()[0]} in [tool.agentlightning] of {path} is {expected}"


def test_a_variable_that_an_option_cannot_take_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGL_STORE", "nowhere:port")
    assert refusal(capsys).startswith("agl: AGL_STORE: 'nowhere:port' is no address of a store, such as ")


def test_what_is_no_table_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "pyproject.toml"
    path.write_text("[tool]\nagentlightning = 3\n")
    assert refusal(capsys) == f"agl: agentlightning of {path} is 3, expected a table: [tool.agentlightning]"


def test_a_file_that_cannot_be_read_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder, "port = ")
    assert refusal(capsys).startswith(f"agl: {path} cannot be read: ")


@pytest.mark.parametrize("kind", [{"action": "append"}, {"nargs": "+"}])
def test_a_list_is_set_whole_and_replaced_whole_by_flags(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any]
) -> None:
    def tools(*flags: str) -> list[str]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--tool", **kind)
        settings.apply(parser)
        return [*parser.parse_args(flags).tool]

    write(folder, 'tool = ["a", "b"]')
    assert tools() == ["a", "b"]
    assert tools("--tool", "c") == ["c"]
    monkeypatch.setenv("AGL_TOOL", "d, e")
    assert tools() == ["d", "e"]
    write(folder, 'tool = "a"')
    monkeypatch.delenv("AGL_TOOL")
    with pytest.raises(settings.SettingError, match=r"""is 'a', expected a list, such as \["a", "b"\]"""):
        tools()


def test_the_settings_of_a_server_are_handed_on_as_flags(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "port = 4748", "keep-days = 0.5", 'host = "0.0.0.0"', "vacuum = true")
    monkeypatch.setenv("AGL_PORT", "4749")
    handed_on = settings.server_flags(commands())
    assert sorted(handed_on) == ["--host=0.0.0.0", "--keep-days=0.5", "--port=4749", "--vacuum"]
    assert options_of_server().parse_args([*handed_on, "--port", "1"]).port == 1


def test_every_option_of_the_server_can_be_set() -> None:
    options = {action.dest for action in options_of_server()._actions if action.help is not argparse.SUPPRESS}
    assert options - {"help"} == set(settings.SERVER)


def test_options_of_one_name_mean_the_same_in_every_command() -> None:
    for name, found in settings._options(commands()).items():
        kinds = [(action.type, action.nargs, action.choices, type(action)) for _, action in found]
        assert all(kind == kinds[0] for kind in kinds), name


def test_variables_of_the_tests_set_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGL_TEST_LENGTH", "long")
    assert set_of("store").source == "default"


def test_help_is_given_whatever_is_set(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AGL_XYZZY", "1")
    with pytest.raises(SystemExit) as ended:
        main(["runs", "list", "--help"])
    assert ended.value.code == 0
    assert "--store HOST:PORT" in capsys.readouterr().out
