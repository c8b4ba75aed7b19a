"""An agent that is a command: what it is given, and what its output and its end mean."""

import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.runner.command.outcome import is_number

Work = Callable[..., Awaitable[Any]]
AGL = f"{sys.executable} -m agentlightning"


async def test_its_task_comes_on_standard_input_and_in_a_file(work: Work) -> None:
    task = {"text": "Zoë", "numbers": [1, 2.5, 12345678901234567890]}
    done = await work('cat; echo; cat "$AGL_TASK_FILE"; echo', task)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [task, task]


async def test_its_resources_come_in_a_file_by_name(work: Work) -> None:
    llm = agl.ProxyLLM(endpoint="http://localhost:9/v1", model="small")
    done = await work('cat "$AGL_RESOURCES_FILE"', prompt_template="Hi {name}", model=llm, limit=3)
    ids = done.rollout.rollout_id, done.attempt.attempt_id
    given = json.loads(done.stdout)
    assert given["prompt_template"] == {
        "resource_type": "prompt_template",
        "template": "Hi {name}",
        "engine": "f-string",
    }
    assert given["model"]["endpoint"] == "http://localhost:9/rollout/{}/attempt/{}/v1".format(*ids)
    assert given["limit"]["value"] == 3


async def test_it_knows_who_it_is(work: Work, store_address: str) -> None:
    done = await work('echo "$AGL_STORE $AGL_ROLLOUT_ID $AGL_ATTEMPT_ID $AGL_ATTEMPT_SEQUENCE $AGL_MODE"')
    assert done.stdout.split() == [store_address, done.rollout.rollout_id, done.attempt.attempt_id, "1", "val"]


async def test_its_opentelemetry_sdk_is_told_where_spans_go_and_whose_they_are(
    work: Work, store_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=rooms,agentlightning.attempt_id=another")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://elsewhere:4317")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=of-another-collector")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    done = await work("env")
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(("OTEL_", "TRACEPARENT")))
    ids = f"agentlightning.rollout_id={done.rollout.rollout_id},agentlightning.attempt_id={done.attempt.attempt_id}"
    assert told["OTEL_RESOURCE_ATTRIBUTES"] == f"service.name=rooms,{ids}"
    assert (
        told["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://{store_address}" == told["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    )
    assert told["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc" == told["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]
    assert (told["OTEL_TRACES_SAMPLER"], told["OTEL_SDK_DISABLED"]) == ("always_on", "false")
    assert told["OTEL_EXPORTER_OTLP_HEADERS"] == ""
    [process] = [span for span in done.spans if span.name == "sh"]
    assert told["TRACEPARENT"] == f"00-{process.trace_id}-{process.span_id}-01"


async def test_its_files_are_removed(work: Work) -> None:
    done = await work('dirname "$AGL_TASK_FILE"')
    assert not Path(done.stdout.strip()).exists()


@pytest.mark.parametrize(
    ("printed", "reward"),
    [
        ("thinking\\n 0.25 \\n\\n", 0.25),
        ("-1e-2", -0.01),
        (".5\\r\\n", 0.5),
        ("\\357\\273\\2770.5\\n", 0.5),
        ("0.5\\ndone\\n", None),
        ("0x10\\n", None),
        ("", None),
    ],
)
async def test_a_number_in_its_last_line_is_the_reward(work: Work, printed: str, reward: float | None) -> None:
    done = await work(f"printf -- '{printed}'")
    assert (done.rollout.status, done.attempt.final_reward) == ("succeeded", reward)


@pytest.mark.parametrize("printed", ["nan", "-inf", "1e999"])
async def test_a_number_that_is_not_finite_fails_it(work: Work, printed: str) -> None:
    done = await work(f"echo {printed}")
    message = f"the last line of standard output is '{printed}', expected a finite number or words"
    assert done.failure == ("agent", "RewardError", message)


def test_a_very_long_last_line_is_read_at_once() -> None:
    # What takes a time that grows with the square of the length would stop all that the runner does, for minutes.
    assert not is_number("1" * 60_000 + "x")


async def test_what_it_emits_need_not_be_text(work: Work) -> None:
    done = await work(f"{AGL} emit span \"$(printf 'a\\377')\"")
    assert "a\N{REPLACEMENT CHARACTER}" in [span.name for span in done.spans]


@pytest.mark.parametrize("printed", ["1", "nan"])
async def test_a_reward_that_it_emits_goes_before_its_last_line(work: Work, printed: str) -> None:
    done = await work(f"{AGL} emit reward accuracy=0.75 brevity=0.5 && echo {printed}")
    assert done.attempt.final_reward == 0.75
    [span] = agl.find_reward_spans(done.spans)
    assert [tuple(reward) for reward in agl.get_rewards_from_span(span)] == [("accuracy", 0.75), ("brevity", 0.5)]


async def test_a_span_that_it_emits_lies_in_its_process(work: Work) -> None:
    done = await work(f"{AGL} emit span search rank --attribute found=3")
    [process] = [span for span in done.spans if span.name == "sh"]
    emitted = [(span.name, span.attributes) for span in done.spans if span.parent_id == process.span_id]
    assert emitted == [("search", {"found": "3"}), ("rank", {"found": "3"})]


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("echo first >&2; echo no room >&2; exit 3", "agent", "exit code 3: no room"),
        ("exit 1", "agent", "exit code 1"),
        ("exit 75", "infrastructure", "exit code 75, which asks to try again later (EX_TEMPFAIL)"),
        ("exec ./nothing 2>&-", "infrastructure", "exit code 127, as of a shell that does not find a program"),
        ("kill -SEGV $$", "agent", "killed by SIGSEGV"),
        ("kill -KILL $$", "infrastructure", "killed by SIGKILL, as the kernel does when memory runs out"),
        ("exit 139", "agent", "exit code 139, as of a shell whose command SIGSEGV killed"),
        ("exit 200", "agent", "exit code 200"),
    ],
)
async def test_its_exit_code_says_how_it_ended(work: Work, script: str, kind: str, message: str) -> None:
    done = await work(f"echo 1; {script}", config=agl.RolloutConfig(max_redeliveries=0))
    assert done.failure == (kind, "ExitStatus", message)
    assert done.attempt.final_reward is None


async def test_its_failure_has_the_end_of_standard_error(work: Work) -> None:
    done = await work("echo first >&2; echo last >&2; exit 1")
    assert done.attempt.failure is not None
    assert done.attempt.failure.stack_trace == "first\nlast\n"


async def test_a_command_that_is_gone_meanwhile_is_no_failure_of_the_agent(
    store: agl.LightningStoreClient, tmp_path: Path
) -> None:
    script = tmp_path / "agent.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    agent = agl.CommandAgent([str(script)])
    script.unlink()
    queued = await store.enqueue_rollout(None, config=agl.RolloutConfig(max_redeliveries=0))
    runner: agl.LitAgentRunner[None] = agl.LitAgentRunner(max_rollouts=1)
    with runner.run_context(agent=agent, store=store):
        await runner.iter()
    attempt = await store.get_latest_attempt(queued.rollout_id)
    assert attempt and attempt.failure
    assert (attempt.failure.kind, attempt.failure.type) == ("infrastructure", "CommandNotStarted")
    assert attempt.failure.message == f"{script}: No such file or directory"


async def test_a_disk_without_room_for_its_files_is_no_failure_of_the_agent(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    done = await work("echo 1", config=agl.RolloutConfig(max_redeliveries=0))
    kind, type, message = done.failure
    assert (kind, type) == ("infrastructure", "CommandNotStarted")
    assert message.startswith("/nowhere/agl-") and message.endswith(": No such file or directory")


async def test_the_end_of_much_output_is_kept(work: Work) -> None:
    done = await work("head -c 30000000 /dev/zero | tr '\\0' x; echo; printf '\\377end\\n'; echo 0.5")
    assert done.stdout.startswith("[29934474 bytes before this are not kept]\nxxx")
    assert done.stdout.endswith("x\n\N{REPLACEMENT CHARACTER}end\n0.5\n")
    assert done.attempt.final_reward == 0.5
    assert done.process["process.exit.code"] == 0


async def test_its_lines_are_logged_as_they_come(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "agentlightning.runner.command"):
        done = await work("echo out; printf end >&2")
    lines = [record.getMessage() for record in caplog.records if record.levelname == "DEBUG"]
    assert sorted(lines) == [f"[{done.rollout.rollout_id}] {line}" for line in ("end", "out")]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "command is empty, expected a program and its arguments"),
        ("echo 'a", 'command is "echo \'a", which cannot be split into words: No closing quotation'),
        ("nothing.sh x", "and there is no such program on the search path; a file of this folder is ./nothing.sh"),
        ("./nothing.sh", "command is './nothing.sh', and there is no such program in "),
        ("./plain.txt", "command is './plain.txt', which is not executable: chmod +x ./plain.txt"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(
    command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.txt").touch()
    with pytest.raises(agl.AgentError) as refusal:
        agl.CommandAgent(command)
    assert message in str(refusal.value)
