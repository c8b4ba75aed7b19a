"""The examples as their READMEs run them: whole scripts, in a folder of their own, without a key."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer

EXAMPLES = Path(__file__).parents[2] / "examples"
TASKS = [json.loads(line) for line in (EXAMPLES / "your_agent/tasks.jsonl").read_text().splitlines()]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}


def run(script: str, *arguments: str, cwd: Path, **environment: str) -> str:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def agl_command(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "agentlightning", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo, run once: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, run("room_selector/room_selector_apo.py", cwd=folder)


def in_short(output: str) -> tuple[str, ...]:
    line = output.strip().splitlines()[-1]
    found = re.fullmatch(r"validation (.*) -> (.*), test (.*) -> (.*), 229 \+ 120 rollouts, \d+ s", line)
    assert found, line
    return found.groups()


def test_the_demo_gets_better_on_tasks_that_nothing_was_chosen_by(demo: tuple[Path, str]) -> None:
    before, after, test_before, test_after = map(float, in_short(demo[1]))
    assert after > before
    assert test_after > test_before


def test_the_demo_says_that_its_models_are_a_simulation(demo: tuple[Path, str]) -> None:
    assert "SIMULATION" in demo[1].splitlines()[0]


def test_the_demo_says_what_it_will_cost_before_it_spends_it(demo: tuple[Path, str]) -> None:
    before, cost, _ = demo[1].partition("cost: 229 rollouts + 120 on the test split, about 698 model calls")
    assert cost
    assert len(re.findall(r"^check: ", before, re.MULTILINE)) == 3


def test_two_runs_of_the_demo_print_the_same_scores(demo: tuple[Path, str], tmp_path: Path) -> None:
    assert in_short(run("room_selector/room_selector_apo.py", cwd=tmp_path)) == in_short(demo[1])


def test_the_best_prompt_is_in_the_file_that_the_demo_names(demo: tuple[Path, str]) -> None:
    folder, output = demo
    path = re.search(r"agl\.PromptTemplate\.load\('(.*)'\)", output)
    assert path
    prompt = agl.PromptTemplate.load(folder / path[1])
    assert prompt.placeholders == {"date", "time", "duration_min", "attendees", "needs", "accessible_required"}


def test_the_command_that_the_demo_names_shows_the_run_again(demo: tuple[Path, str]) -> None:
    folder, output = demo
    command = re.search(r"see this again: agl (.*)", output)
    assert command
    shown = agl_command(*command[1].split(), cwd=folder)
    assert shown.strip() in output


def test_the_runs_of_a_folder_are_listed(demo: tuple[Path, str]) -> None:
    assert re.search(r"^run-[0-9a-f]{12} .* APO +succeeded", agl_command("runs", "list", cwd=demo[0]), re.MULTILINE)


def test_an_unknown_run_is_refused_with_those_that_are_there(demo: tuple[Path, str]) -> None:
    command = [sys.executable, "-m", "agentlightning", "runs", "show", "run-x"]
    done = subprocess.run(command, cwd=demo[0], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.match(r"agl: there is no run 'run-x'; the newest are: run-[0-9a-f]{12}", done.stderr)


def test_three_terminals_find_the_best_prompt(store_address: str, tmp_path: Path) -> None:
    runner = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "custom_algorithm/app.py"), "runner"],
        cwd=tmp_path,
        env=ENVIRONMENT | {"AGL_STORE": store_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output = run("custom_algorithm/app.py", "algo", cwd=tmp_path, AGL_STORE=store_address)
    finally:
        runner.terminate()
        said = runner.communicate(timeout=30)[0]
    assert output.count("[Algo] Final reward: 0.") == 3
    assert "[Algo] Best prompt found: 'You are a " in output
    assert "Span(name='openai.chat.completion'" in output
    assert "[Worker 0] Started async rollouts (max: unlimited)." in said
    assert len(re.findall(r"\[Worker 0 \| Rollout ro-[0-9a-f]{12}\] Completed in ", said)) == 3


def answer(request: ChatRequest) -> ChatReply:
    """A model that answers at length unless its prompt asks for one word, and an optimiser that finds that out."""
    text = str(request.messages[-1]["content"])
    if "<critique>" in text:
        return ChatReply("Answer in one word: {question}")
    if "<rollout " in text:
        return ChatReply("- The answers are too long.")
    known = next(task["expected"] for task in TASKS if task["question"] in text)
    return ChatReply(known if "one word" in text else f"It is {known}.")


def test_an_agent_of_ones_own_trains_against_any_openai_server(tmp_path: Path) -> None:
    with OpenAIServer(answer) as model:
        output = run("your_agent/train.py", cwd=tmp_path, OPENAI_API_KEY="any", OPENAI_BASE_URL=model.base_url)
    assert "+Answer in one word: {question}" in output
