"""The early API's example, in two terminals."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from agentlightning.testing import ChatReply, OpenAIServer

FOLDER = Path(__file__).parents[2] / "examples" / "getting_started"


def test_a_server_finds_the_best_prompt_with_the_workers_that_connect(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with OpenAIServer(lambda request: ChatReply("Paris.")) as model:
        environment = {**os.environ, "OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "any"}
        command = [sys.executable, str(FOLDER / "client.py"), f"http://127.0.0.1:{port}"]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as client:
            command = [sys.executable, str(FOLDER / "server.py"), str(port)]
            server = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
            client.send_signal(signal.SIGINT)
    assert server.returncode == 0, server.stdout + server.stderr
    assert len(re.findall(r"^\[Algo\] Received reward: 0\.\d{3}$", server.stdout, re.MULTILINE)) == 3
    assert re.search(r"^\[Algo\] Best prompt: 'You are a .*' \(reward: 0\.\d{3}\)$", server.stdout, re.MULTILINE)
