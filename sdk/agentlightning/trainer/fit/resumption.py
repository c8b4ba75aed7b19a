"""What a run has to keep so that it can be resumed: what it was made of, how it was started, and who works on it."""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agentlightning.errors import TrainerError
from agentlightning.litagent import LitAgent
from agentlightning.store.convert import from_json, to_json
from agentlightning.types import Dataset, NamedResources, Run, tasks_of

RESUME: Final = "AGL_RESUME"
"""In the environment: the run to resume, which `fit` of the program it is of, and `changed` if changes are fine."""

_READ_SECONDS: Final = 30
_NOTHING: Final = object()
_fits = 0


def count_fit() -> int:
    """Which `fit` of this program it is that begins now."""
    global _fits
    _fits += 1
    return _fits


def asked_for(fit: int) -> tuple[str, bool] | None:
    """The run that this `fit` is to resume as the environment says, and whether changes do not matter; said once."""
    run_id, *more = os.environ.get(RESUME, "").split() or [""]
    if not run_id or next(iter(more), "1") != str(fit):
        return None
    del os.environ[RESUME]
    return run_id, "changed" in more


def environment_for(run: Run, *, changed: bool) -> dict[str, str]:
    """The environment in which the program of a run goes on with it."""
    fit = ((run.config or {}).get("started") or {}).get("fit", 1)
    return os.environ | {RESUME: " ".join([run.run_id, str(fit), *["changed"] * changed])}


def command_of_program() -> list[str] | None:
    """What starts this program again. None: nothing does, as it was typed into a notebook or an interpreter."""
    main = sys.modules.get("__main__")
    is_kept = hasattr(main, "__file__") or "-c" in sys.orig_argv
    if "ipykernel" in sys.modules or not is_kept:
        return None
    return [sys.executable, *sys.orig_argv[1:]]


def started(fit: int) -> dict[str, Any]:
    """How this `fit` was started."""
    return {"command": command_of_program(), "folder": str(Path.cwd()), "fit": fit}


def dataset_facts(dataset: Dataset[Any] | None) -> str:
    """A dataset in a few words that tell it from others."""
    if dataset is None:
        return "none"
    digest = hashlib.sha256()
    for task in tasks_of(dataset):
        digest.update(to_json("task", task).encode() + b"\n")
    return f"{len(dataset)} tasks ({digest.hexdigest()[:12]})"


def made_of(
    algorithm: str,
    settings: Mapping[str, Any],
    agent: LitAgent[Any] | None,
    initial_resources: NamedResources,
    datasets: Mapping[str, Dataset[Any] | None],
) -> dict[str, Any]:
    """What has to be the same for a run to be resumed, as JSON gives it back; keys are left out."""
    facts = {
        "algorithm": algorithm,
        "settings": settings,
        "agent": None if agent is None else _name_of(agent),
        "initial_resources": {name: each.model_dump(exclude={"api_key"}) for name, each in initial_resources.items()},
        **{name: dataset_facts(dataset) for name, dataset in datasets.items()},
    }
    return dict(from_json(to_json("config", facts)))


def check_unchanged(run: Run, now: Mapping[str, Any]) -> None:
    """Refuse to go on with what was begun otherwise.

    Raises:
        TrainerError: Something differs; the message names it and both values.
    """
    then: Mapping[str, Any] = (run.config or {}).get("made_of") or {}
    differences = list(_differences("", then, now))
    if differences:
        raise TrainerError(
            f"run {run.run_id} cannot be resumed, as something has changed since it began: {'; '.join(differences)}. "
            "Change it back, or resume it nevertheless with fit(resume_changed=True) or "
            f"`agl runs resume {run.run_id} --changed`: what is still the same is not done again"
        )


@contextlib.contextmanager
def worked_on(run_id: str, folder: Path) -> Iterator[None]:
    """Keep a run for this process while the block runs; the kernel gives it free when the process dies.

    Raises:
        TrainerError: Somebody works on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / "trainer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(file, 20).decode() or "unknown"
            raise TrainerError(
                f"run {run_id} is being worked on by the process {pid}: let it end, or end it with Ctrl-C, and resume "
                "the run then"
            ) from None
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        yield
    finally:
        os.close(file)


def read_run(address: str, run_id: str) -> Run:
    """A run, read by a process of its own: this one must not have touched gRPC when it forks its runners.

    Raises:
        TrainerError: It cannot be read, or there is none.
    """
    command = [sys.executable, "-m", "agentlightning", "runs", "show", run_id, "--json", "--store", address]
    environment = {name: value for name, value in os.environ.items() if name != RESUME}
    told = subprocess.run(command, capture_output=True, text=True, timeout=_READ_SECONDS, check=False, env=environment)
    if told.returncode:
        raise TrainerError(f"resume is {run_id!r}: {told.stderr.strip().removeprefix('agl: ')}")
    return Run.model_validate_json(told.stdout)


def _differences(name: str, then: Any, now: Any) -> Iterator[str]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in {**then, **now}:
            below = f"{name}.{key}" if name else str(key)
            yield from _differences(below, then.get(key, _NOTHING), now.get(key, _NOTHING))
    elif then != now:
        yield f"{name} was {_shown(then)} and is {_shown(now)}"


def _name_of(agent: LitAgent[Any]) -> str:
    return str(getattr(agent, "__qualname__", None) or getattr(agent, "__name__", None) or type(agent).__qualname__)


def _shown(value: object) -> str:
    return "not there" if value is _NOTHING else repr(value)
