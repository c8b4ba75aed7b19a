"""What a command is given: its task and its resources in files, who it is in its environment. Knows no process."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry import trace

from agentlightning.runner.command.tree import MARK
from agentlightning.semconv import ATTEMPT_ID, ROLLOUT_ID
from agentlightning.store.base import LightningStore
from agentlightning.types import AttemptedRollout, NamedResources, ProxyLLM, Resource


@dataclass(frozen=True)
class Given:
    """What a command is given.

    Attributes:
        folder: A folder of the attempt's own.
        task: The task's JSON.
        environment: All its variables.
    """

    folder: Path
    task: Path
    environment: Mapping[str, str]


@contextlib.contextmanager
def given(rollout: AttemptedRollout, resources: NamedResources, store: LightningStore) -> Iterator[Given]:
    """Write what a command is given; it is removed with the block."""
    with tempfile.TemporaryDirectory(prefix="agl-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        task, named = folder / "task.json", folder / "resources.json"
        _write(task, rollout.input)
        _write(named, {key: _concrete(resource, rollout).model_dump() for key, resource in resources.items()})
        files = {"AGL_TASK_FILE": os.fspath(task), "AGL_RESOURCES_FILE": os.fspath(named)}
        yield Given(folder, task, {**os.environ, **_identity(rollout, store), **_tracing(rollout, store), **files})


def _write(path: Path, value: Any) -> None:
    # JSON may have half of a character, for which there is no UTF-8: escaped in Python's way, which is that of JSON.
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")


def _concrete(resource: Resource, rollout: AttemptedRollout) -> Resource:
    return resource.with_attempted_rollout(rollout) if isinstance(resource, ProxyLLM) else resource


def _identity(rollout: AttemptedRollout, store: LightningStore) -> dict[str, str]:
    return {
        "AGL_STORE": str(getattr(store, "server_address", "")),
        "AGL_ROLLOUT_ID": rollout.rollout_id,
        MARK: rollout.attempt.attempt_id,
        "AGL_ATTEMPT_SEQUENCE": str(rollout.attempt.sequence_id),
        "AGL_MODE": rollout.mode or "",
        "PATH": _path(),
    }


def _path() -> str:
    """The search path, on which `agl` is found also where its environment is not activated."""
    path = os.environ.get("PATH", os.defpath)
    return path if shutil.which("agl") else f"{path}{os.pathsep}{Path(sys.executable).parent}"


def _tracing(rollout: AttemptedRollout, store: LightningStore) -> dict[str, str]:
    """What any OpenTelemetry SDK reads: where spans go, whose they are, and that none is left out."""
    endpoint = store.otlp_traces_endpoint() or ""
    ids = {ROLLOUT_ID: rollout.rollout_id, ATTEMPT_ID: rollout.attempt.attempt_id}
    known = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    attributes = [pair for pair in known if pair and pair.partition("=")[0].strip() not in ids]
    ours = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
        "OTEL_RESOURCE_ATTRIBUTES": ",".join([*attributes, *(f"{key}={value}" for key, value in ids.items())]),
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_SDK_DISABLED": "false",
        # What is set there is for another collector, such as a key of its own.
        "OTEL_EXPORTER_OTLP_HEADERS": "",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "",
        # The store takes spans alone; an SDK would report that it refuses the rest.
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    span = trace.get_current_span().get_span_context()
    parent = f"00-{span.trace_id:032x}-{span.span_id:016x}-01" if span.is_valid else ""
    return {**ours, "TRACEPARENT": parent}
