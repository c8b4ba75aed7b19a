"""`agl resources` against a real store."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest

Agl = Callable[..., Awaitable[Any]]
Store = agl.LightningStoreClient


@pytest.fixture
async def prompt(run_store: Store) -> agl.ResourcesUpdate:
    """A prompt in its second version."""
    first = await run_store.add_resources({"prompt": "Be brief.\nTask: {task}"})
    return await run_store.update_resources(first.resources_id, {"prompt": "Be exact.\nTask: {task}"})


async def test_resources_are_listed_in_their_last_version_newest_first(
    command: Agl, run_store: Store, prompt: agl.ResourcesUpdate
) -> None:
    later = await run_store.add_resources({"prompt": "Later"}, parent=prompt)
    told = await command("resources", "list", "--run", run_store.run_id)
    assert [cells[0] for cells in told.cells] == [f"{later.resources_id}@1", f"{prompt.resources_id}@2"]
    assert f"{prompt.resources_id}@2  prompt: Later" in told.out.splitlines()[1]
    every = await command("resources", "list", "--run", run_store.run_id, "--all", "--json")
    assert sorted(update["version"] for update in every.json) == [1, 1, 2]


async def test_a_version_is_shown_as_it_is(command: Agl, prompt: agl.ResourcesUpdate) -> None:
    told = await command("resources", "show", f"{prompt.resources_id}@1")
    assert told.out.endswith("prompt (prompt_template)\nBe brief.\nTask: {task}\n")
    assert (await command("resources", "show", prompt.resources_id, "--json")).json["version"] == 2


async def test_the_key_of_an_api_is_not_shown(command: Agl, store: Store) -> None:
    llm = agl.LLM(endpoint="http://localhost:1/v1", model="small", api_key="secret")
    update = await store.add_resources({"main_llm": llm})
    for arguments in (["show"], ["show", "--json"], ["export"], ["export", "--json"]):
        told = await command("resources", *arguments, update.resources_id)
        assert '"small"' in told.out and "secret" not in told.out


async def test_two_versions_differ_in_the_lines_of_the_prompt(command: Agl, prompt: agl.ResourcesUpdate) -> None:
    expected = [
        f"--- {prompt.resources_id}@1 prompt",
        f"+++ {prompt.resources_id}@2 prompt",
        "@@ -1,2 +1,2 @@",
        "-Be brief.",
        "+Be exact.",
        " Task: {task}",
    ]
    told = await command("resources", "diff", f"{prompt.resources_id}@1", f"{prompt.resources_id}@2")
    assert told.out.splitlines() == expected
    assert (await command("resources", "diff", prompt.resources_id)).out == told.out
    assert (await command("resources", "diff", prompt.resources_id, "--json")).json["diff"] == expected


async def test_one_alone_is_compared_with_what_it_was_derived_from(
    command: Agl, run_store: Store, prompt: agl.ResourcesUpdate
) -> None:
    derived = await run_store.add_resources({"prompt": "Be kind.\nTask: {task}"}, parent=prompt)
    told = await command("resources", "diff", derived.resources_id)
    assert told.out.splitlines()[0] == f"--- {prompt.resources_id}@2 prompt"
    assert "+Be kind." in told.out


async def test_the_best_prompt_of_a_run_is_a_file_in_one_call(
    command: Agl, run_store: Store, prompt: agl.ResourcesUpdate, tmp_path: Path
) -> None:
    await run_store.update_run(str(run_store.run_id), best_resources=prompt)
    await run_store.update_resources(prompt.resources_id, {"prompt": "Worse"})
    told = await command("resources", "export", "--best", run_store.run_id, "--to", str(tmp_path / "best.txt"))
    assert (told.status, told.out) == (0, f"{tmp_path / 'best.txt'}\n")
    assert agl.PromptTemplate.load(tmp_path / "best.txt").template == "Be exact.\nTask: {task}"


async def test_a_run_without_best_resources_is_an_error(command: Agl, run_store: Store) -> None:
    told = await command("resources", "export", "--best", run_store.run_id)
    assert told.status == 1
    assert told.err == f"agl: run {run_store.run_id} (APO, running) has named no best resources\n"


async def test_one_of_several_prompts_is_chosen_by_name(command: Agl, store: Store) -> None:
    update = await store.add_resources({"a": "A", "b": "B"})
    told = await command("resources", "export", update.resources_id)
    assert (told.status, told.err) == (2, f"agl: {update.resources_id} has several: choose with --name a or b\n")
    assert (await command("resources", "export", update.resources_id, "--name", "b")).out == "B\n"
    assert "it has: a, b" in (await command("resources", "export", update.resources_id, "--name", "c")).err


@pytest.mark.parametrize(
    ("version", "status", "message"),
    [("@9", 1, "there is no version 9 of resources {id}; the last is 2"), ("@x", 2, "'x' is no version: write {id}@2")],
)
async def test_a_version_that_there_is_not_is_an_error(
    command: Agl, prompt: agl.ResourcesUpdate, version: str, status: int, message: str
) -> None:
    told = await command("resources", "show", prompt.resources_id + version)
    assert (told.status, told.err) == (status, f"agl: {message.format(id=prompt.resources_id)}\n")


async def test_unknown_resources_are_an_error_that_names_the_newest(command: Agl, prompt: agl.ResourcesUpdate) -> None:
    told = await command("resources", "show", "rs-none")
    assert told.status == 1
    assert told.err.startswith("agl: there are no resources 'rs-none'; the newest are: ")
    assert prompt.resources_id in told.err
