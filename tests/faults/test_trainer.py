"""`fit` that is interrupted, killed, or loses its runners: it ends soon, leaves nothing, and counts nothing twice.

What it leaves is looked for afterwards: every process that carries the test's mark in its environment, whoever's child
it is, the store's port, and the locks of its folder.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agentlightning import LightningStoreClient
from agentlightning.store.embedded import address_of

BOUND = 10.0
at_length = pytest.mark.skipif(os.environ.get("AGL_TEST_LENGTH") != "long", reason="`make faults` runs it")
TRAIN = """
import asyncio, logging, os, signal, subprocess, sys, time
import agentlightning as agl

logging.basicConfig(level=logging.WARNING)

def agent(task: int) -> float:
    {agent}
    return float(task)

def say(what):
    print(what, flush=True)

@agl.algo
async def count(store, train_dataset):
    rollouts = [(await store.enqueue_rollout(task)).rollout_id for task in train_dataset]
    say("TRAINING " + store.server_address)
    {algorithm}
    await store.wait_for_rollouts(rollouts)
    done = await store.query_rollouts(rollouts)
    print("DONE", sorted(int(rollout.attempt.final_reward) for rollout in done), flush=True)

trainer = agl.Trainer(**dict(algorithm=count, n_runners=2) | dict({options}))
try:
    {fit}
except BaseException as error:
    print("RAISED", type(error).__name__, getattr(error, "code", error), flush=True)
    if not isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise
print("AFTERWARDS", flush=True)
"""
SLEEPS = "task and time.sleep(600)"


class Training:
    """A training script at work, in a session of its own as if in a terminal."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.mark = f"AGL_TEST_MARK={uuid.uuid4().hex}"
        (folder / "script.py").write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "script.py"],
            cwd=folder,
            env=os.environ | dict([self.mark.split("=")]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def wait_for(self, text: str) -> str:
        """Read its output up to a line with this text, and return what follows it there."""
        assert self.process.stdout is not None
        with self._watched():
            for line in self.process.stdout:
                self.output += line
                if text in line:
                    return line.partition(text)[2].strip()
        raise AssertionError(f"{text!r} never came:\n{self.output}")

    def interrupt(self, number: signal.Signals) -> None:
        """As a terminal does for Ctrl-C: all processes of the foreground group. SIGTERM comes to one process."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def finish(self) -> str:
        """Wait until every process that shares its output has ended; what it said."""
        with self._watched():
            self.output += self.process.communicate()[0]
        return self.output

    def processes(self, kind: str = "") -> list[int]:
        """All that is alive of it, wherever it works and whoever's child it is; of which the command line says this."""
        return [
            int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_ours(entry, kind)
        ]

    def left_over(self) -> list[str]:
        """What it has left behind: processes, the store's port, locks that are held."""
        left = [f"process {pid}" for pid in self.processes() if not _ends(pid)]
        store = self.folder / ".agentlightning"
        if address_of(store / "store.db") is not None:
            left.append("the store's lock")
        for lock in store.glob("*.lock"):
            if _is_held(lock):
                left.append(str(lock))
        for address in {line.split()[2] for line in self.output.splitlines() if line.startswith("store at ")}:
            host, _, port = address.rpartition(":")
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    left.append(f"port {port}")
        return left

    def _is_ours(self, entry: Path, kind: str) -> bool:
        try:
            return self.mark.encode() in (entry / "environ").read_bytes() and kind in (entry / "cmdline").read_text()
        except OSError:
            return False

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        watchdog = threading.Timer(3 * BOUND, self.close)
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            watchdog.join()

    def close(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _ends(pid: int) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([process], [], [], BOUND)
    os.close(process)
    return bool(ended)


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


Start = Callable[..., Training]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a training script; `agent`, `algorithm`, `options`, `fit` and `before` are code to put into it."""
    started: list[Training] = []

    def start_training(**code: str) -> Training:
        code = {"agent": "pass", "algorithm": "pass", "options": "", "fit": "trainer.fit(agent, [0, 1, 2])"} | code
        before = code.pop("before", "")
        started.append(Training(tmp_path, before + TRAIN.format(**code)))
        return started[-1]

    yield start_training
    for training in started:
        training.close()
        training.process.wait()
        assert training.process.stdout is not None
        training.process.stdout.close()


IN_SHORT = (
    "the store starts",
    "the first rollout is checked",
    "the algorithm waits",
    "the algorithm blocks the loop",
    "the result is saved",
    "a command runs the agent and does not listen",
)
MOMENTS: dict[str, tuple[str, dict[str, str]]] = {
    "the store starts": (
        "STARTING",
        {
            "before": "import subprocess\n"
            "class Popen(subprocess.Popen):\n"
            "    def __init__(self, command, **options):\n"
            "        super().__init__([command[0], '-c', 'import time; time.sleep(600)'], **options)\n"
            "        self.is_there = True\n"
            "    def __getattribute__(self, name):\n"
            "        if name == 'stdout' and 'is_there' in self.__dict__:\n"
            "            print('STARTING', flush=True)\n"
            "        return super().__getattribute__(name)\n"
            "subprocess.Popen = Popen\n"
        },
    ),
    "the first rollout is checked": ("CHECKING", {"agent": "say('CHECKING'); time.sleep(600)"}),
    "the algorithm waits": ("TRAINING", {"agent": SLEEPS}),
    "the algorithm blocks the loop": ("TRAINING", {"agent": SLEEPS, "algorithm": "time.sleep(600)"}),
    "the algorithm waits for a thread": (
        "TRAINING",
        {"agent": SLEEPS, "algorithm": "await asyncio.to_thread(time.sleep, 8)"},  # which the program's end waits for
    ),
    "an agent blocks its loop": (
        "BLOCKING",
        {"fit": "async def blocking(task):\n        task and (say('BLOCKING'), time.sleep(600))\n        return 1.0\n"
         "    trainer.fit(blocking, [0, 1, 2])"},
    ),
    "an agent has started a process": (
        "BLOCKING",
        {"agent": "task and (say('BLOCKING'), subprocess.run(['sleep', '600']))"},
    ),
    "a command runs the agent and does not listen": (
        "RUNNING",
        {
            "options": "strategy=agl.RunnerCommand(['sh', '-c', 'trap \"\" TERM; echo RUNNING; sleep 600; :'])",
            "fit": "trainer.fit(train_dataset=[0, 1, 2])",
        },
    ),
    "agents are threads of the trainer": ("TRAINING", {"agent": SLEEPS, "options": "strategy='threads'"}),
    "fit is called inside a running loop": (
        "TRAINING",
        {
            "agent": SLEEPS,
            "fit": "async def main():\n        trainer.fit(agent, [0, 1, 2])\n    asyncio.run(main())",
        },
    ),
    "the result is saved": (
        "SAVING",
        {
            "before": "import time\nfrom agentlightning.trainer.fit.conclusion import Conclusion\n"
            "def save(*_):\n    print('SAVING', flush=True)\n    time.sleep(600)\nConclusion.of = save\n"
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "moment",
    [pytest.param(moment, marks=() if moment in IN_SHORT else at_length) for moment in MOMENTS],
)
def test_ctrl_c_ends_everything_and_is_raised_again(start: Start, moment: str) -> None:
    said, code = MOMENTS[moment]
    training = start(**code)
    training.wait_for(said)
    training.interrupt(signal.SIGINT)
    assert "RAISED KeyboardInterrupt" in training.finish()
    assert "AFTERWARDS" in training.output
    assert training.left_over() == []


@pytest.mark.parametrize("moment", [pytest.param("the store starts", marks=at_length), "the algorithm waits"])
def test_sigterm_ends_everything_and_then_the_program(start: Start, moment: str) -> None:
    said, code = MOMENTS[moment]
    training = start(**code)
    training.wait_for(said)
    training.interrupt(signal.SIGTERM)
    assert "RAISED SystemExit 143" in training.finish()
    assert training.left_over() == []


def test_ctrl_c_again_and_again_does_not_disturb_the_ending(start: Start) -> None:
    training = start(agent="task and time.sleep(600)", algorithm="time.sleep(600)")
    training.wait_for("TRAINING")
    ended = threading.Event()

    def impatient() -> None:
        while not ended.wait(0.05):
            with contextlib.suppress(ProcessLookupError):
                training.interrupt(signal.SIGINT)
            if training.process.poll() is not None:
                return

    fingers = threading.Thread(target=impatient)
    fingers.start()
    training.finish()
    ended.set()
    fingers.join()
    assert "KeyboardInterrupt" in training.output
    assert training.left_over() == []


@pytest.mark.parametrize("agent", [pytest.param(SLEEPS, marks=at_length), "task and subprocess.run(['sleep', '600'])"])
def test_a_trainer_that_is_killed_takes_its_runners_and_its_store_along(start: Start, agent: str) -> None:
    training = start(agent=agent)
    training.wait_for("TRAINING")
    training.process.kill()
    training.finish()
    assert training.left_over() == []


def test_a_supervisor_that_is_killed_ends_fit_with_the_reason(start: Start) -> None:
    training = start(agent="task and (say(f'SUPERVISOR {os.getppid()}'), time.sleep(600))")
    os.kill(int(training.wait_for("SUPERVISOR ")), signal.SIGKILL)
    assert "the runners cannot go on: their supervisor was killed" in training.finish()
    assert training.left_over() == []


def test_runners_that_are_killed_cost_no_rollout_and_count_none_twice(
    start: Start, times: Callable[[int, int], int]
) -> None:
    tasks = list(range(times(16, 200)))
    training = start(agent="say(f'AT {task} {os.getpid()}'); time.sleep(0.05)", fit=f"trainer.fit(agent, {tasks})")
    training.wait_for("TRAINING")
    for _ in range(times(3, 30)):
        pids = [int(training.wait_for("AT ").split()[1]) for _ in range(4)]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[-1], signal.SIGKILL)
    assert f"DONE {tasks}" in training.finish()
    assert training.left_over() == []


def test_an_agent_that_crashes_is_reported_with_the_signal_and_the_last_words(start: Start) -> None:
    training = start(agent="import ctypes; ctypes.string_at(0)")
    said = training.finish()
    assert "was killed by SIGSEGV (Fatal Python error: Segmentation fault)" in said
    assert 'script.py", line' in said
    assert training.left_over() == []


def test_a_runner_that_cannot_start_ends_fit_with_the_exception(start: Start) -> None:
    training = start(
        before="import os, agentlightning.tracer as t\nmain = os.getpid()\n"
        "def broken(self, *_):\n    if os.getpid() != main:\n        raise RuntimeError('no licence for tracing')\n"
        "t.Tracer.init_worker = broken\n"
    )
    said = training.finish()
    assert "died 5 times in a row: ended with exit code 1 (RuntimeError: no licence for tracing)" in said
    assert training.left_over() == []


@at_length
def test_a_runner_that_dies_now_and_then_is_not_given_up(start: Start) -> None:
    training = start(
        agent="task % 3 == 2 and not os.path.exists(f'died{task}') and (open(f'died{task}', 'w'), os._exit(7))",
        fit="trainer.fit(agent, list(range(20)))",
        options="n_runners=1",
    )
    assert f"DONE {list(range(20))}" in training.finish()
    assert training.output.count("Died: ended with exit code 7. Started again in 0.1 s.") == 6


def test_a_trainer_gives_back_only_the_rollouts_of_its_own_runners(start: Start) -> None:
    """Two in one folder share a store, and both call their runners Worker 0 and Worker 1."""
    held = "task == 1 and (say('HELD'), [time.sleep(0.05) for _ in range(600) if not os.path.exists('go')])"
    first = start(agent=held)
    first.wait_for("HELD")
    second = start(agent="task == 2 and not os.path.exists('died') and (open('died', 'w'), os._exit(7))")
    assert "DONE [0, 1, 2]" in second.finish()
    (first.folder / "go").touch()
    assert "DONE [0, 1, 2]" in first.finish()
    assert "lost" not in first.output


@at_length
def test_runners_that_have_done_their_share_do_not_leave_fit_waiting(start: Start) -> None:
    training = start(options="max_rollouts=1")
    assert "max_rollouts=1, and there is more to do" in training.finish()
    assert training.left_over() == []


@pytest.mark.parametrize("strategy", ["processes", pytest.param("threads", marks=at_length)])
def test_runners_that_have_done_their_share_do_not_end_what_is_done(start: Start, strategy: str) -> None:
    training = start(fit="trainer.fit(agent, [1])", options=f"max_rollouts=1, strategy={strategy!r}")
    assert "DONE [1]" in training.finish()


def test_an_async_agent_does_several_rollouts_at_once_in_one_runner(start: Start) -> None:
    """Each waits for the others: fewer at once would wait for ever."""
    fit = """
    async def together(task: int) -> float:
        global present
        present += task > 0
        present == 3 and everybody.set()
        task and await everybody.wait()
        return float(task)
    present, everybody = 0, asyncio.Event()
    trainer.n_runners = 1
    trainer.fit(together, [0, 1, 2, 3])"""
    assert "DONE [0, 1, 2, 3]" in start(fit=fit).finish()


async def test_what_an_interrupted_run_leaves_undone_is_cancelled(start: Start, store: LightningStoreClient) -> None:
    """Runners elsewhere would go on with it."""
    training = start(agent=SLEEPS, options=f"store={store.server_address!r}, queue={store.queue!r}")
    training.wait_for("TRAINING")
    training.interrupt(signal.SIGINT)
    training.finish()
    [run] = await store.query_runs()
    rollouts = await store.bind(run_id=run.run_id).query_rollouts()
    assert (run.status, {rollout.status for rollout in rollouts}) == ("cancelled", {"succeeded", "cancelled"})


def test_fit_without_runners_says_once_how_to_start_one_and_goes_on_when_it_is_there(
    start: Start, serve: Callable[..., Any]
) -> None:
    server = serve()
    training = start(
        options=f"store={server.address!r}, queue='rooms', strategy='remote'",
        before="import agentlightning.trainer.runners.remote as remote\nremote._PATIENCE = 0.1\n",
    )
    assert f"agl runner script:agent --store {server.address} --queue rooms" in training.wait_for("Start one")
    runner = (
        "import asyncio, agentlightning as agl\n"
        "runner = agl.LitAgentRunner(max_rollouts=4)\n"
        f"store = agl.LightningStoreClient({server.address!r}, queue='rooms')\n"
        "with runner.run_context(agent=lambda task: float(task), store=store): asyncio.run(runner.iter())"
    )
    subprocess.run([sys.executable, "-c", runner], check=True, timeout=BOUND)
    assert "DONE [0, 1, 2]" in training.finish()
