"""The files of docs/scaling.md: every command in them is understood, and what scales the runners does."""

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.cli.program import parser
from agentlightning_server.__main__ import arguments as store_arguments

ROOT = Path(__file__).parents[2]
SCALING = ROOT / "examples/scaling"
FILES = [*SCALING.glob("*.yaml"), SCALING / "Dockerfile", SCALING / "runners.sbatch", ROOT / "docs/scaling.md"]


def commands_of(text: str) -> list[list[str]]:
    """The arguments of commands: lists of a manifest or a Dockerfile, and `agl ...` in a line of a shell."""
    lists = [json.loads(found) for found in re.findall(r"^\s*(?:args: |CMD )(\[.*\])$", text, re.MULTILINE)]
    shell = re.findall(r"^(?:srun |\$ )?agl ((?:runner|store) .*?)(?:  +#.*)?$", text, re.MULTILINE)
    return lists + [shlex.split(line) for line in shell]


def scaler() -> Any:
    spec = spec_from_file_location("scale", SCALING / "scale.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def understand(command: list[str]) -> Any:
    """What a command's own parser makes of it; one that it refuses ends the test."""
    match command:
        case ["store", *arguments]:
            return store_arguments().parse_args(arguments)
        case ["runner", *_]:
            return parser().parse_args(command)
    return scaler().arguments().parse_args(command)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_command_is_understood(file: Path) -> None:
    commands = commands_of(file.read_text())
    assert commands
    for command in commands:
        assert understand(command)


def test_pods_are_given_longer_to_end_than_runners_drain() -> None:
    text = (SCALING / "runners.yaml").read_text()
    [command] = commands_of(text)
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    assert int(grace) >= understand(command).drain_seconds + 10


def test_slurm_warns_longer_before_the_time_limit_than_runners_drain() -> None:
    text = (SCALING / "runners.sbatch").read_text()
    [command] = commands_of(text)
    [warning] = re.findall(r"--signal=TERM@(\d+)", text)
    assert int(warning) >= understand(command).drain_seconds + 10


def test_the_image_has_what_it_is_built_from() -> None:
    for line in re.findall(r"^COPY (.*) \S+$", (SCALING / "Dockerfile").read_text(), re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split())


class Api(HTTPServer):
    """What Kubernetes is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None, Any]] = []
        super().__init__(("127.0.0.1", 0), _ApiHandler)


class _ApiHandler(BaseHTTPRequestHandler):
    server: Api

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.append((self.path, self.headers["Authorization"], body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """A folder as Kubernetes puts it into a pod."""
    (tmp_path / "namespace").write_text("training\n")
    (tmp_path / "token").write_text("secret\n")
    return tmp_path


@pytest.fixture
def scale(store_address: str, api: Api, account: Path) -> Callable[..., Any]:
    """Runs what scales a deployment with two rollouts a runner, one runner at least and five at most."""
    options = f"--store {store_address} --api http://127.0.0.1:{api.server_port} --account {account}"
    limits = "--per-runner 2 --least 1 --most 5"

    def run(queue: str, deployment: str) -> None:
        which = f"--queue {queue} --deployment {deployment}"
        command = [sys.executable, str(SCALING / "scale.py"), *f"{options} {limits} {which}".split()]
        subprocess.run(command, check=True, timeout=60)

    return run


@pytest.mark.parametrize(("waiting", "in_hand", "replicas"), [(5, 2, 4), (30, 0, 5), (0, 0, 1)])
async def test_there_are_as_many_runners_as_the_queue_and_what_they_have_in_hand_ask_for(
    store: agl.LightningStoreClient, api: Api, scale: Callable[..., Any], waiting: int, in_hand: int, replicas: int
) -> None:
    deployment = f"runners{waiting}"
    for number in range(in_hand):
        await store.start_rollout(number, worker_id=f"{deployment}-7d9f-x2x4q-1-aaaa")
    await store.start_rollout(0, worker_id="laptop-1-bbbb")
    await store.enqueue_many_rollouts([agl.EnqueueRolloutRequest(input=number) for number in range(waiting)])
    scale(store.queue, deployment)
    path = f"/apis/apps/v1/namespaces/training/deployments/{deployment}/scale"
    assert api.told == [(path, "Bearer secret", {"spec": {"replicas": replicas}})]
