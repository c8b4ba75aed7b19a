"""What can go wrong, as exceptions, by what the caller can do about it. Knows gRPC's codes but no client or server.

AgentLightningError
+-- StoreError                  a call to the store was refused or failed
|   +-- InvalidRequestError     mend the request
|   +-- NotFoundError           no such rollout, attempt, resources, run or worker
|   +-- AttemptLostError        the attempt is no longer the caller's: abandon it
|   +-- ConflictError           somebody changed it meanwhile: read again and decide again
|   +-- StoreUnavailableError   try again: nothing is known to have changed
|   +-- UnsupportedError        this server does not serve the call
+-- AgentError                  the agent, its signature or what it returned
|   +-- MissingResourceError    the agent asks for a resource that the rollout does not have
|   +-- AgentCheckError         the first rollout of a fit did not succeed
+-- InstrumentationError        an instrumentor is not installed
+-- PromptTemplateError         a template cannot be rendered, read or written
+-- AlgorithmError              an algorithm cannot start or go on
+-- TrainerError                a parameter of a Trainer or of fit cannot be used
+-- EmptyTrainingDataError      the spans of a rollout hold nothing to learn from

In the examples, `store` is a `LightningStoreClient` and `address` its address.
"""

from collections.abc import Mapping


class AgentLightningError(Exception):
    """The root of all exceptions raised by this package.

    Example:
        >>> try:
        ...     agl.PromptTemplate(template="Hi {name}").format()
        ... except agl.AgentLightningError as error:
        ...     print(type(error).__name__)
        PromptTemplateError
    """


class StoreError(AgentLightningError):
    """A call to the store was refused or failed.

    Attributes:
        code: gRPC's name of the status code, for example `NOT_FOUND`.
        reason: The `ErrorReason` without its prefix, empty when the server gave none.
        metadata: What the reason is about: ids, field, value.

    Example:
        >>> try:
        ...     asyncio.run(store.start_attempt("ro-0123456789ab"))
        ... except agl.StoreError as error:
        ...     print(error.code, error.reason, error.metadata)
        NOT_FOUND ROLLOUT_NOT_FOUND {'rollout_id': 'ro-0123456789ab'}
    """

    def __init__(
        self, message: str, *, code: str = "UNKNOWN", reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})


class InvalidRequestError(StoreError, ValueError):
    """The request has a value it cannot have.

    It is a `ValueError`; of a value of another type than its parameter takes, a `TypeError`, too. The message names the
    parameter, the value and what is expected.

    Example:
        >>> try:
        ...     asyncio.run(store.query_rollouts(status_in=["done"]))
        ... except agl.InvalidRequestError as error:
        ...     print(error)
        status_in[0] is 'done', expected one of queuing, preparing, running, ...
    """


class NotFoundError(StoreError, ValueError):
    """There is no such rollout, attempt, resources, run or worker.

    It is a `ValueError`. Reading what is not there is no error: `get_rollout_by_id` and its like answer None.

    Example:
        >>> try:
        ...     asyncio.run(store.start_attempt("ro-0123456789ab"))
        ... except agl.NotFoundError as error:
        ...     print(error)
        Rollout ro-0123456789ab not found
    """


class AttemptLostError(StoreError):
    """The attempt has ended or was superseded: whoever holds it should abandon it.

    Nothing was changed. What the attempt was for is in other hands by now, or done.

    Example:
        >>> mine = asyncio.run(store.start_rollout("Why?"))
        >>> theirs = asyncio.run(store.start_attempt(mine.rollout_id))
        >>> try:
        ...     asyncio.run(store.complete_attempt(mine.rollout_id, mine.attempt.attempt_id))
        ... except agl.AttemptLostError as error:
        ...     print(error.reason)
        ATTEMPT_SUPERSEDED
    """


class ConflictError(StoreError):
    """Somebody changed the object meanwhile.

    Nothing was changed: read it again and decide again.

    Example:
        >>> run = asyncio.run(store.create_run("mine"))
        >>> changed = asyncio.run(store.update_run(run.run_id, checkpoint={"round": 1}))
        >>> try:
        ...     asyncio.run(store.update_run(run.run_id, checkpoint={"round": 2}, if_revision=run.revision))
        ... except agl.ConflictError:
        ...     print(asyncio.run(store.get_run(run.run_id)).checkpoint)
        {'round': 1}
    """


class StoreUnavailableError(StoreError, ConnectionError):
    """The store cannot be reached or cannot take the call now.

    It is a `ConnectionError`. The client has tried for its `retry_seconds` by then. Every call is safe to make again.

    Example:
        >>> nowhere = agl.LightningStoreClient("localhost:1", retry_seconds=0)
        >>> try:
        ...     asyncio.run(nowhere.statistics())
        ... except agl.StoreUnavailableError as error:
        ...     print(error)
        no store answers at localhost:1 (...): is `agl store` running there?
    """


class UnsupportedError(StoreError, NotImplementedError):
    """The server does not serve the call.

    It is a `NotImplementedError`. One meets it with a server that is older than the client: update the server.

    Example:
        >>> import grpc
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> old = grpc.server(ThreadPoolExecutor(1))
        >>> port = old.add_insecure_port("localhost:0")
        >>> old.start()
        >>> try:
        ...     asyncio.run(agl.LightningStoreClient(f"localhost:{port}").backup())
        ... except agl.UnsupportedError as error:
        ...     print(error.code)
        UNIMPLEMENTED
        >>> _ = old.stop(grace=0)
    """


class AgentError(AgentLightningError):
    """The agent, its signature or what it returned cannot be used.

    A signature that cannot work is refused where the agent is written.

    Example:
        >>> try:
        ...     @agl.rollout
        ...     def agent() -> float: ...
        ... except agl.AgentError as error:
        ...     print(error)
        agent has no parameters; its first one is given the task
    """


class MissingResourceError(AgentError, LookupError):
    """The agent asks for a resource that the rollout does not have.

    It is a `LookupError`. It fails the attempt; `step` raises it.

    Example:
        >>> def agent(task: str, style: str) -> float: ...
        >>> with agl.LitAgentRunner().run_context(agent=agent, store=store) as runner:
        ...     try:
        ...         asyncio.run(runner.step("Why?", resources={"tone": "dry"}))
        ...     except agl.MissingResourceError as error:
        ...         print(error)
        the agent asks for the resource 'style'; the rollout has 'tone' (PromptTemplate)
    """


class AttemptTimeoutError(AgentError, TimeoutError):
    """The agent took longer than its rollout allows.

    It is a `TimeoutError`. It ends the attempt as `timeout`; the limit is `RolloutConfig.timeout_seconds`.

    Example:
        >>> async def agent(task: str) -> None:
        ...     await asyncio.sleep(60)
        >>> limits = agl.RolloutConfig(timeout_seconds=0.2)
        >>> rollout = asyncio.run(store.enqueue_rollout("Why?", config=limits))
        >>> with agl.LitAgentRunner(max_rollouts=1).run_context(agent=agent, store=store) as runner:
        ...     asyncio.run(runner.iter())
        >>> asyncio.run(store.get_latest_attempt(rollout.rollout_id)).status
        'timeout'
    """


class AgentCheckError(AgentError):
    """The first rollout of a fit did not succeed, so no other was spent.

    The message says what became of it: mend the agent and call `fit` again.

    Example:
        >>> from contextlib import redirect_stdout
        >>> from io import StringIO
        >>> def agent(task: str) -> float:
        ...     raise RuntimeError("not written yet")
        >>> trainer = agl.Trainer(store=address, folder=tmp_path, strategy="threads")
        >>> with redirect_stdout(StringIO()):
        ...     try:
        ...         result = trainer.fit(agent, ["Why?"])
        ...     except agl.AgentCheckError as error:
        ...         reason = str(error)
        >>> reason.splitlines()[0]
        'the first rollout failed with RuntimeError: not written yet'
    """


class InstrumentationError(AgentLightningError, ValueError):
    """An instrumentor that a tracer is to enable is not installed.

    It is a `ValueError`. Install the package that brings it, or leave the name out.

    Example:
        >>> try:
        ...     agl.Tracer(instrumentors=["crystal_ball"])
        ... except agl.InstrumentationError as error:
        ...     print(error)
        instrumentors has 'crystal_ball', which is not installed; installed are: ...
    """


class PromptTemplateError(AgentLightningError, ValueError):
    """A prompt template cannot be rendered, read or written.

    It is a `ValueError`. The message names the placeholder and those that there are.

    Example:
        >>> try:
        ...     agl.PromptTemplate(template="Hi {name}").format(nmae="Ann")
        ... except agl.PromptTemplateError as error:
        ...     print(error)
        the template asks for 'name', but only 'nmae' is given; ...
    """


class AlgorithmError(AgentLightningError):
    """An algorithm cannot start or go on.

    Example:
        >>> from openai import AsyncOpenAI
        >>> algorithm = agl.APO(AsyncOpenAI(api_key="any"))
        >>> try:
        ...     algorithm.get_best_prompt()
        ... except agl.AlgorithmError as error:
        ...     print(error)
        No best prompt found: none has been tried on the validation set yet; run the algorithm
    """


class TrainerError(AgentLightningError, ValueError):
    """A parameter of a `Trainer` or of `fit` cannot be used; the message names it, its value and the way out.

    >>> agl.Trainer(n_runners=-1)
    Traceback (most recent call last):
    agentlightning.errors.TrainerError: n_runners is -1, expected a whole number of at least 0
    """


class EmptyTrainingDataError(AgentLightningError, ValueError):
    """The spans of a rollout hold nothing to learn from; the message says why, call by call.

    It is a `ValueError`. `require` of an adapter raises it where `adapt` gives an empty list.

    Example:
        >>> call = agl.Span.from_attributes(name="openai.chat.completion", attributes={"gen_ai.request.model": "m"})
        >>> try:
        ...     agl.TracerTraceToTriplet().require([call])
        ... except agl.EmptyTrainingDataError as error:
        ...     print(error)
        TracerTraceToTriplet has nothing to learn from: 1 x no answer was recorded; ...
    """
