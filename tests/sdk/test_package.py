"""The package as a whole: what importing it costs, and that its public names are there."""

import subprocess
import sys

import agentlightning as agl
import pytest


def test_importing_it_loads_nothing_that_the_program_does_not_need() -> None:
    heavy = ["grpc", "google.protobuf", "pydantic", "opentelemetry", "openai", "asyncio"]
    code = f"import sys, agentlightning; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_names_a_training_script_begins_with_load_no_transport_and_no_tracing() -> None:
    heavy = ["grpc", "google.protobuf", "opentelemetry", "asyncio", "openai", "rich"]
    names = "agl.Trainer, agl.TrainResult, agl.rollout, agl.LitAgent, agl.PromptTemplate"
    code = f"import sys, agentlightning as agl; {names}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_client_loads_neither_the_server_nor_a_model_client() -> None:
    code = "import sys, agentlightning as agl; agl.LightningStoreClient; agl.Trainer; print([*sys.modules])"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "'agentlightning_server" not in loaded
    assert "'openai'" not in loaded


@pytest.mark.parametrize("name", sorted(agl.__all__))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(agl, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = agl.Nonsense
