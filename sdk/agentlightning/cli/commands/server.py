"""`agl server start`: a store for agents that connect by `Trainer.fit(agent, backend=...)`, and the model they call."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from agentlightning.errors import AgentLightningError

if TYPE_CHECKING:
    from agentlightning.types import LLM


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    server = commands.add_parser("server", help="a store that agents connect to, and the model they call")
    start_it = server.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "start",
        help="serve the store of this folder until Ctrl-C",
        description="Serve the store of this folder, for Trainer.fit(agent, backend=...) to connect to.",
        epilog="example: agl server start --port 8000 --openai-compatible-llm-uri http://localhost:8001/v1",
    )
    start_it.add_argument(
        "--host",
        default="127.0.0.1",
        help="where to listen; 0.0.0.0: wherever it can be reached, by anyone (default: %(default)s)",
    )
    start_it.add_argument("--port", type=int, default=8000, help="the port; 0 for any free (default: %(default)s)")
    start_it.add_argument(
        "--openai-compatible-llm-uri",
        metavar="URI",
        help="the base URL of a model's API, as in http://localhost:8001/v1; agents are given it as resource main_llm",
    )
    start_it.add_argument("--llm-model", metavar="NAME", help="the model (default: the first that the API lists)")
    start_it.add_argument("--debug", action="store_true", help="say all that the store does, on standard error")
    start_it.set_defaults(alone=start, shown_from=logging.INFO)


def start(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve(arguments))
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    from agentlightning.server import AgentLightningServer

    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    assert serving is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    uri = arguments.openai_compatible_llm_uri
    llm = None if uri is None else await _llm(uri, arguments.llm_model)
    server = AgentLightningServer(arguments.host, arguments.port, debug=arguments.debug)
    await server.start()
    try:
        if llm is not None:
            await server.update_resources({"main_llm": llm})
            print(f"Agents are given main_llm: model {llm.model!r} at {llm.endpoint}")
        print(f"Serving the store of {server.folder.resolve()} at {server.endpoint}", flush=True)
        await server.run_forever()
    finally:
        await server.stop()


async def _llm(uri: str, model: str | None) -> "LLM":
    """The model at an address, asked for its name unless that is given."""
    from agentlightning.types import LLM

    return LLM(endpoint=uri, model=model or await _first_model(uri))


async def _first_model(uri: str) -> str:
    from openai import AsyncOpenAI, OpenAIError

    try:
        async with AsyncOpenAI(base_url=uri, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=0) as client:
            models = (await client.models.list()).data
    except OpenAIError as error:
        raise AgentLightningError(
            f"{uri} does not list its models ({error}): start what serves them first, or name one with --llm-model"
        ) from error
    if not models:
        raise AgentLightningError(f"{uri} lists no model: name one with --llm-model")
    return models[0].id
