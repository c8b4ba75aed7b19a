"""The systems that are measured: how to install them, start them on a core, ask their versions. Knows no workload."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measure import Measured

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PEER = "agentlightning==0.3.0"
PEER_PINS = {
    # Its HTTP path loses spans with later releases.
    "opentelemetry-api": "1.38.0",
    "opentelemetry-sdk": "1.38.0",
    "opentelemetry-proto": "1.38.0",
    "opentelemetry-exporter-otlp": "1.38.0",
    "opentelemetry-exporter-otlp-proto-common": "1.38.0",
    "opentelemetry-exporter-otlp-proto-grpc": "1.38.0",
    "opentelemetry-exporter-otlp-proto-http": "1.38.0",
    "opentelemetry-instrumentation": "0.59b0",
    "opentelemetry-semantic-conventions": "0.59b0",
}
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class BenchmarkError(Exception):
    """A measurement that could not be made; the message is one line."""


@dataclass(frozen=True)
class Cores:
    """Where the processes of a measurement run. None: wherever the kernel likes."""

    client: int | None = None
    server: int | None = None

    @classmethod
    def pick(cls) -> "Cores":
        """The first for the client and the second for the server, if there are two and they can be chosen."""
        if not hasattr(os, "sched_getaffinity") or len(cores := sorted(os.sched_getaffinity(0))) < 2:
            return cls()
        return cls(cores[0], cores[1])

    def __str__(self) -> str:
        if self.client is None:
            return "not pinned: fewer than two cores, or no way to choose them"
        return f"client on core {self.client}, server on core {self.server}"


@dataclass(frozen=True)
class System:
    """A way to do the work.

    Attributes:
        name: `ours`, `raw` or `peer`.
        python: The interpreter of its environment.
        driver: The client program of its measurements.
        packages: Whose versions are worth noting.
    """

    name: str
    python: Path
    driver: str
    packages: tuple[str, ...]

    @contextlib.contextmanager
    def serving(self, folder: Path, cores: Cores) -> "Iterator[tuple[subprocess.Popen[str], Any]]":
        """Run a server with its data in a folder; gives its process, and a function that waits for its address."""
        if self.name == "peer":
            port = _free_port()
            command = [str(self.python.with_name("agl")), "store", "--host", "127.0.0.1", "--port", str(port)]
            address = f"http://127.0.0.1:{port}"
        else:
            command = [str(self.python), "-m", "agentlightning_server", "--db", str(folder / "store.db"), "--port", "0"]
            address = ""
        with (folder / "server.log").open("w+") as log:
            process = start([*command, "--log-level", "WARNING"], core=cores.server, stdout=subprocess.PIPE, stderr=log)

            def ready() -> str:
                try:
                    return _healthy(address, process) if address else _greeted(process)
                except BenchmarkError as error:
                    log.seek(0)
                    raise BenchmarkError(f"{error}: {last_line(log.read())}") from None

            with stopping(process):
                yield process, ready

    def drive(self, folder: Path, name: str, sizes: Mapping[str, Any], cores: Cores, timeout: float) -> Measured:
        """Start a server and a client at once, and have the client work when both are ready."""
        command = [str(self.python), str(HERE / self.driver), name, json.dumps(sizes)]
        with self.serving(folder, cores) as (server, ready):
            pipe = subprocess.PIPE
            client = start(command, cores.client, stdin=pipe, stdout=pipe, stderr=pipe)
            with stopping(client):
                about = json.dumps({"address": ready(), "pid": server.pid})
                try:
                    printed, complaint = client.communicate(about + "\n", timeout=timeout)
                except subprocess.TimeoutExpired:
                    raise BenchmarkError(f"not done in {timeout:g} s") from None
        if client.returncode:
            raise BenchmarkError(last_line(complaint))
        return Measured(**json.loads(printed.splitlines()[-1]))

    def versions(self) -> dict[str, str]:
        """What it is made of."""
        names = json.dumps(self.packages)
        code = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {names}}}))"
        return dict(json.loads(output([str(self.python), "-c", code])), python=self.python_version())

    def python_version(self) -> str:
        """The interpreter's."""
        return output([str(self.python), "-c", "import platform; print(platform.python_version())"]).strip()


def ours() -> System:
    """The checkout, as the interpreter that runs this has it."""
    packages = ("grpcio", "protobuf", "aiosqlite", "pydantic", "opentelemetry-sdk")
    return System("ours", Path(sys.executable), "drive.py", packages)


def raw() -> System:
    """Our server without our client."""
    return replace(ours(), name="raw", driver="drive_raw.py")


def peer(cache: Path) -> System:
    """The peer, installed into an environment of its own if it is not there yet."""
    requirement = hashlib.sha256(json.dumps([PEER, PEER_PINS]).encode()).hexdigest()[:8]
    venv = cache / f"peer-{requirement}"
    python = installed(venv, PEER, constraints=[f"{name}=={version}" for name, version in PEER_PINS.items()])
    packages = ("agentlightning", "fastapi", "uvicorn", "aiohttp", "pydantic", "opentelemetry-sdk")
    return System("peer", python, "drive.py", packages)


def ours_installed(cache: Path) -> Path:
    """The interpreter of an environment with nothing but the checkout in it."""
    project = hashlib.sha256((CHECKOUT / "pyproject.toml").read_bytes()).hexdigest()[:8]
    return installed(cache / f"ours-{project}", str(CHECKOUT))


def installed(venv: Path, requirement: str, constraints: Sequence[str] = ()) -> Path:
    """An environment with a requirement in it: the one that was made before, or a new one."""
    python = venv / "bin" / "python"
    done = venv / "installed"
    if not done.exists():
        print(f"installing {requirement} into {venv}", file=sys.stderr)
        shutil.rmtree(venv, ignore_errors=True)
        output([sys.executable, "-m", "venv", str(venv)])
        limits = venv / "constraints.txt"
        limits.write_text("\n".join(constraints))
        output([str(python), "-m", "pip", "install", "--quiet", "--constraint", str(limits), requirement])
        done.touch()
    return python


def environment(program: str) -> Mapping[str, str]:
    """What a program runs with.

    The peer's LiteLLM would look for prices on the network, and wait where there is none: that is not what we measure.
    """
    variables = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    if program != sys.executable:
        variables.pop("PYTHONPATH", None)  # it is about this interpreter, not another environment's
    return variables


def start(command: Sequence[str], core: int | None, **options: Any) -> subprocess.Popen[str]:
    """Start a process on a core. Ctrl-C reaches only us: we stop what we started."""
    pin = None if core is None else (lambda: os.sched_setaffinity(0, {core}))
    return subprocess.Popen(command, text=True, env=environment(command[0]), process_group=0, preexec_fn=pin, **options)


@contextlib.contextmanager
def stopping(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave no process behind."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def folder_in(parent: Path) -> Iterator[Path]:
    """A folder for one measurement."""
    with tempfile.TemporaryDirectory(prefix="agl-benchmark-", dir=parent) as name:
        yield Path(name)


def output(command: Sequence[str], core: int | None = None, timeout: float = 1800.0) -> str:
    """What a command prints."""
    with start(command, core, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process, stopping(process):
        try:
            printed, complaint = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{Path(command[0]).name} was not done in {timeout:g} s") from None
    if process.returncode:
        raise BenchmarkError(last_line(complaint or printed))
    return printed


def last_line(text: str) -> str:
    """The line in which a traceback says what it was."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "nothing was said"


def _greeted(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    greeting = process.stdout.readline()
    if " on " not in greeting:
        raise BenchmarkError("the server did not start")
    return greeting.partition(" on ")[2].partition(",")[0]


def _healthy(address: str, process: subprocess.Popen[str]) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"{address}/v1/agl/health"),
        ):
            return address
        time.sleep(0.1)
    raise BenchmarkError("the server did not start")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
