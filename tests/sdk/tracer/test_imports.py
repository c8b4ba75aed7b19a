import subprocess
import sys

import pytest


def loaded_by(module: str) -> set[str]:
    program = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", program], text=True).split())


@pytest.mark.parametrize("package", ["adapter", "emitter", "litagent", "runner", "tracer"])
def test_the_openai_package_is_not_loaded_before_a_worker_starts(package: str) -> None:
    assert "openai" not in loaded_by(f"agentlightning.{package}")


@pytest.mark.parametrize("package", ["adapter", "emitter", "litagent"])
def test_what_agents_import_loads_neither_grpc_nor_the_sdk_of_opentelemetry(package: str) -> None:
    assert not {"grpc", "opentelemetry.sdk"} & loaded_by(f"agentlightning.{package}")
