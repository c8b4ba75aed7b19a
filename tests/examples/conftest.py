"""Makes the example's modules importable as they are for its scripts, and the runner that tests train with."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[2] / "examples" / "room_selector"), str(Path(__file__).parent)]


@pytest.fixture
def strange_otel() -> dict[str, str]:
    """Variables that turn off, cut or misdirect what an OpenTelemetry SDK records where they are heeded."""
    return {
        "OTEL_SDK_DISABLED": "true",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3",
        "OTEL_RESOURCE_ATTRIBUTES": "agentlightning.attempt_id=at-0000000000000000",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-agl-attempt-id=at-0000000000000000",
    }
