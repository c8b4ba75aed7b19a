"""`agl store`: what may be said on its command line."""

import asyncio
from datetime import timedelta
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning_server.__main__ import arguments
from agentlightning_server.app import serve
from agentlightning_server.config import Config


def test_unless_told_otherwise_everything_is_kept() -> None:
    args = arguments().parse_args([])
    assert (args.keep_days, args.keep_runs, args.vacuum) == (None, None, False)


def test_days_may_be_parts_of_days() -> None:
    assert arguments().parse_args(["--keep-days", "0.5"]).keep_days == timedelta(hours=12)


@pytest.mark.parametrize(
    ("flag", "text"),
    [("--keep-days", text) for text in ("-1", "nan", "inf", "1e300", "long")]
    + [("--keep-runs", text) for text in ("-1", "1.5", "all")],
)
def test_what_is_no_number_is_refused_with_one_that_is(
    flag: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments().parse_args([flag, text])
    message = capsys.readouterr().err
    assert repr(text) in message and "such as" in message
    assert message.endswith("(see agl store --help)\n") and message.count("\n") == 1


@pytest.mark.parametrize("text", ["::1", "[::1]"])
async def test_an_address_of_ipv6_is_listened_on_in_either_spelling(text: str, tmp_path: Path) -> None:
    host = arguments().parse_args(["--host", text]).host
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    config = Config(tmp_path / "store.db", host, port=0)
    serving = asyncio.create_task(serve(config, on_ready=listening.set_result))
    client = agl.LightningStoreClient(await listening)
    assert (await client.statistics())["total_rollouts"] == 0
    await client.close()
    serving.cancel()
    await asyncio.wait({serving})
