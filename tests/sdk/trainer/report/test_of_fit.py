"""The reports that `fit` leaves beside the best prompt."""

import json
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from openai import AsyncOpenAI, OpenAI

CRITIQUE = "The prompt does not say <where> to go."
SEED = "Go: {task}."


def answer(request: ChatRequest) -> ChatReply:
    """The critic misses a direction, the editor adds one, and the agent goes."""
    if request.model == "critic":
        return ChatReply(CRITIQUE)
    if request.model == "editor":
        return ChatReply(f"Go north: {{task}}. ({request.digest[:6]})")
    return ChatReply("gone")


def tuned(store_address: str, folder: Path, test: list[str] | None) -> agl.TrainResult:
    with OpenAIServer(answer) as server:

        def agent(task: str, prompt_template: agl.PromptTemplate) -> float:
            prompt = prompt_template.format(task=task)
            with OpenAI(api_key="none", base_url=server.base_url) as client:
                client.chat.completions.create(model="small", messages=[{"role": "user", "content": prompt}])
            return float("north" in prompt)

        # Nothing is left open: the loop that a connection belongs to ends with `fit`.
        closing = {"Connection": "close"}
        algorithm = agl.APO(
            AsyncOpenAI(api_key="none", base_url=server.base_url, max_retries=0, default_headers=closing),
            gradient_model="critic",
            apply_edit_model="editor",
            gradient_batch_size=1,
            beam_width=1,
            branch_factor=1,
            beam_rounds=1,
        )
        trainer = agl.Trainer(
            algorithm=algorithm,
            store=store_address,
            folder=folder,
            strategy="threads",
            initial_resources={"prompt_template": SEED},
        )
        return trainer.fit(agent, ["a", "b"], val_dataset=["c", "d"], test_dataset=test)


def test_fit_writes_both_reports_beside_the_best_prompt_and_prints_where(
    store_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tuned(store_address, tmp_path, ["e", "f", "g"])
    assert result.prompt_path is not None
    markdown, page = (result.prompt_path.with_name(f"report.{ending}") for ending in ("md", "html"))
    assert f"report: {markdown} and {page}\n" in capsys.readouterr().out
    best = result.prompt_path.read_text().strip()
    assert best.startswith("Go north")
    told = markdown.read_text()
    assert f"```\n{best}\n```" in told
    assert "| validation | 0.00 | 1.00 |" in told
    assert "Test split: +1.00 on 3 tasks that nothing was chosen by, 95 % interval +1.00 to +1.00" in told
    assert r"The prompt does not say \<where\> to go." in told
    assert "The prompt does not say &lt;where&gt; to go." in page.read_text()
    assert result.summary["holdout"] == {
        "tasks": 3,
        "lost": 0,
        "baseline": 0.0,
        "best": 1.0,
        "difference": 1.0,
        "interval": [1.0, 1.0],
    }


class Search(agl.Algorithm):
    """Tries each task once, and tells when it found its best."""

    def run(self, train_dataset: Any = None, val_dataset: Any = None) -> Any:
        return self.search(list(train_dataset))

    async def search(self, tasks: list[str]) -> None:
        store = self.get_store()
        enqueued = [await store.enqueue_rollout(task, "val") for task in tasks]
        await store.wait_for_rollouts([rollout.rollout_id for rollout in enqueued])

    def summary(self) -> dict[str, Any]:
        return {"curve": [{"rollouts": count, "cost": None, "version": "v0", "score": 1.0} for count in (1, 2)]}


def test_each_point_of_the_curve_is_told_with_what_had_been_spent(store_address: str, tmp_path: Path) -> None:
    with OpenAIServer(lambda request: ChatReply("gone")) as server:

        def agent(task: str) -> float:
            with OpenAI(api_key="none", base_url=server.base_url) as client:
                client.chat.completions.create(model="small", messages=[{"role": "user", "content": task}])
            return 1.0

        trainer = agl.Trainer(
            algorithm=Search(), store=store_address, folder=tmp_path, strategy="threads", prices={"small": (1e6, 0.0)}
        )
        result = trainer.fit(agent, ["a", "b"])
    assert result.tokens is not None
    each = result.tokens["small"].input_tokens / 3  # the rollout that is shown beforehand is paid for, too
    assert [point["cost"] for point in result.summary["curve"]] == [2 * each, 3 * each]


def test_without_a_test_split_nothing_is_compared_on_it(store_address: str, tmp_path: Path) -> None:
    result = tuned(store_address, tmp_path, None)
    assert result.summary["holdout"] is None
    assert "Test split" not in Path(result.summary["report_paths"][0]).read_text()


def test_a_run_that_tunes_nothing_leaves_no_report(store_address: str, tmp_path: Path) -> None:
    trainer = agl.Trainer(store=store_address, folder=tmp_path, strategy="threads")
    result = trainer.fit(lambda task: 1.0, ["a"])
    assert json.loads(json.dumps(result.summary["report_paths"])) == []
    assert not [*tmp_path.rglob("report.*")]


def test_a_report_that_cannot_be_written_does_not_cost_the_run(
    store_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlightning.trainer.report import saving

    def broken(run: agl.Run) -> str:
        raise OSError("the disk is full")

    monkeypatch.setattr(saving, "_FORMS", {"report.md": broken})
    assert tuned(store_address, tmp_path, None).best_score == 1.0
    assert "could not be written: try agl runs show run-" in caplog.text
