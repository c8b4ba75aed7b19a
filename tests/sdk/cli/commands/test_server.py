"""`agl server start`: what it serves, what it tells agents of their model, and how it ends."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import agentlightning as agl
import pytest

START = [sys.executable, "-m", "agentlightning", "server", "start", "--port", "0"]


@pytest.fixture
def models() -> Iterator[str]:
    """The address of an API that lists a model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            model = {"id": "small", "object": "model", "created": 0, "owned_by": "us"}
            self.wfile.write(json.dumps({"object": "list", "data": [model]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def resources_at(address: str) -> agl.NamedResources | None:
    async def read() -> agl.NamedResources | None:
        store = agl.LightningStoreClient(address)
        latest = await store.get_latest_resources()
        return latest.resources if latest else None

    return asyncio.run(read())


def served(*arguments: str, folder: Path, end: signal.Signals) -> tuple[agl.NamedResources | None, int, str]:
    """The resources of a server that is started and ended, its exit status and what it said."""
    process = subprocess.Popen(
        [*START, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.match(r"Serving the store of .* at (\S+)$", line):
            resources = resources_at(found[1])
            break
    else:
        raise AssertionError(said)
    process.send_signal(end)
    said += process.communicate(timeout=30)[0]
    return resources, process.returncode, said


def test_it_serves_the_store_of_the_folder_until_ctrl_c_and_names_the_model_as_told(tmp_path: Path) -> None:
    uri = "http://localhost:1/v1"
    arguments = ["--openai-compatible-llm-uri", uri, "--llm-model", "large", "--debug"]
    resources, status, said = served(*arguments, folder=tmp_path, end=signal.SIGINT)
    assert resources == {"main_llm": agl.LLM(endpoint=uri, model="large")}
    assert (tmp_path / ".agentlightning" / "store.db").exists()
    assert status == 0
    assert "[DEBUG]" in said


def test_agents_are_given_the_model_that_the_api_lists_until_it_is_terminated(models: str, tmp_path: Path) -> None:
    resources, status, said = served("--openai-compatible-llm-uri", models, folder=tmp_path, end=signal.SIGTERM)
    assert resources == {"main_llm": agl.LLM(endpoint=models, model="small")}
    assert status == 0
    assert "[DEBUG]" not in said


def test_an_api_that_does_not_answer_is_refused_with_the_way_out(tmp_path: Path) -> None:
    command = [*START, "--openai-compatible-llm-uri", "http://localhost:1/v1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("agl: http://localhost:1/v1 does not list its models")
    assert "--llm-model" in done.stderr
    assert done.stderr.count("\n") == 1
