"""docs/any-command.md names what a command is given, all of it, and its lines for working by hand run as they stand."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.runner.runner import LitAgentRunner

DOCUMENT = (Path(__file__).parents[2] / "docs/any-command.md").read_text()


async def test_it_names_every_variable_that_a_command_is_given(
    store: agl.LightningStoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {"PATH": "/usr/bin:/bin"})
    runner: LitAgentRunner[Any] = LitAgentRunner()
    script = "env | grep -v '^PWD=\\|^_=\\|^OLDPWD=\\|^SHLVL=\\|^LC_CTYPE='"
    with runner.run_context(agent=agl.CommandAgent(["sh", "-c", script]), store=store):
        rollout = await runner.step(None)
    [process] = [span for span in await store.query_spans(rollout.rollout_id) if span.name == "sh"]
    given = {line.split("=")[0] for line in process.attributes["agentlightning.process.stdout"].splitlines()}
    table = "".join(line for line in DOCUMENT.splitlines() if line.startswith("| `"))
    named = {name for name in re.findall(r"`([A-Z_]+)`", table) if name.startswith(("AGL_", "OTEL_", "TRACE", "PATH"))}
    assert given == named


def test_its_lines_for_working_by_hand_run(tmp_path: Path) -> None:
    (tmp_path / "agent.sh").write_text('#!/bin/sh\ncat - "$AGL_RESOURCES_FILE"\nexit 3\n')
    (tmp_path / "agent.sh").chmod(0o755)
    [lines] = re.findall(r"^```sh\n(echo .*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    ended = subprocess.run(["sh", "-c", lines], cwd=tmp_path, capture_output=True, text=True)
    task, resources, code = ended.stdout.splitlines()
    assert agl.PromptTemplate(**json.loads(resources)["prompt_template"]).format(**json.loads(task)) == "Hi Ann"
    assert code == "exit code 3"


def test_its_resources_are_as_they_are_written() -> None:
    [shown] = re.findall(r"^```json\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    resources = {
        "prompt_template": agl.PromptTemplate(template="Hi {name}"),
        "model": agl.LLM(endpoint="http://...", model="small"),
        "limit": agl.CustomResource(value=3),
    }
    assert json.loads(shown) == {name: resource.model_dump() for name, resource in resources.items()}
