"""Spans: stored once, numbered, kept whole, and refused alone."""

import asyncio
import functools
import logging
from collections.abc import Callable

import agentlightning as agl
import pytest
from opentelemetry.sdk.trace import TracerProvider

MakeSpan = Callable[..., agl.Span]


async def test_spans_come_back_as_they_were_sent_in_sequence(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    attributes = {
        "text": "a",
        "number": 1,
        "share": 0.5,
        "yes": True,
        "list": ["a", "b"],
        "map": {"k": [1, None]},
        "b": b"x",
    }
    ids = (started.rollout_id, started.attempt.attempt_id)
    spans = [
        agl.Span.from_attributes(
            attributes=attributes, rollout_id=ids[0], attempt_id=ids[1], sequence_id=number, name="s"
        )
        for number in (2, 1)
    ]
    assert len(await store.add_many_spans(spans)) == 2

    read = await store.query_spans(ids[0])
    assert [span.sequence_id for span in read] == [1, 2]
    assert read[0].attributes == attributes
    assert read[1].start_time == pytest.approx(spans[0].start_time)


async def test_a_span_sent_twice_is_stored_once(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    span = agl.Span.from_attributes(attributes={}, rollout_id=started.rollout_id, attempt_id=started.attempt.attempt_id)
    assert await store.add_span(span) is not None
    assert await store.add_span(span) is None
    assert len(await store.query_spans(started.rollout_id)) == 1


async def test_a_stored_span_is_answered_as_it_was_given(store: agl.LightningStoreClient, make_span: MakeSpan) -> None:
    span = make_span(await store.start_rollout("task"), 7)
    assert await store.add_span(span) is span


async def test_a_span_without_a_number_is_answered_with_one(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    stored = await store.add_span(make_span(await store.start_rollout("task"), 1, sequence_id=0))
    assert stored is not None
    assert stored.sequence_id == 1


async def test_a_duplicate_is_said_in_the_log(
    store: agl.LightningStoreClient, make_span: MakeSpan, caplog: pytest.LogCaptureFixture
) -> None:
    span = make_span(await store.start_rollout("task"))
    await store.add_span(span)
    assert await store.add_span(span) is None
    assert [(record.levelno, "Duplicated span added" in record.message) for record in caplog.records] == [
        (logging.ERROR, True)
    ]


async def test_the_same_span_id_in_another_attempt_is_another_span(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    first = await store.start_rollout("task")
    second = await store.start_attempt(first.rollout_id)
    assert await store.add_span(make_span(first)) is not None
    assert await store.add_span(make_span(second)) is not None
    assert len(await store.query_spans(first.rollout_id)) == 2


async def test_many_spans_of_many_attempts_are_answered_in_order_without_those_there_already(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    first, other = await store.start_rollout("task"), await store.start_rollout("other")
    retried = await store.start_attempt(first.rollout_id)
    spans = [make_span(first, 1), make_span(other, 3), make_span(retried, 2), make_span(first, 1)]
    assert await store.add_many_spans(spans) == spans[:3]
    assert await store.add_many_spans([]) == []


async def test_one_bad_span_keeps_no_other_from_being_stored(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    elsewhere = agl.AttemptedRollout(
        **{**dict(started), "attempt": started.attempt.model_copy(update={"attempt_id": "at-unknown"})}
    )
    bad = [
        make_span(started, 1, attributes={"x": float("nan")}),
        make_span(started, 2, start_time=float("inf")),
        make_span(started, 3, name="half a pair \ud83d"),
        make_span(started, 4, span_id="not hex"),
        make_span(elsewhere, 5),
    ]
    good = [make_span(started, number) for number in (6, 7)]
    with pytest.raises(agl.InvalidRequestError, match="5 spans were refused"):
        await store.add_many_spans([good[0], *bad, good[1]])
    assert [span.sequence_id for span in await store.query_spans(started.rollout_id)] == [6, 7]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"attributes": {"x": [1.0, float("nan")]}}, r"attributes\['x'\] is 'nan'"),
        ({"end_time": float("nan")}, "end_time is nan"),
        ({"events": [agl.Event(name="e", timestamp=float("inf"))]}, "event.timestamp is inf"),
        ({"trace_id": "0"}, "trace_id is '0'"),
        ({"sequence_id": -1}, "sequence_id is '-1'"),
        ({"why": float("nan")}, "extra fields is"),
        ({"attributes": {"x": functools.reduce(lambda inner, _: [inner], range(60), 1)}}, "span-1.*nested too deep"),
    ],
    ids=["attribute", "time", "time of an event", "trace id", "number", "extra field", "depth"],
)
async def test_a_bad_value_is_named(
    store: agl.LightningStoreClient, make_span: MakeSpan, fields: dict[str, object], named: str
) -> None:
    started = await store.start_rollout("task")
    with pytest.raises(agl.InvalidRequestError, match=named):
        await store.add_span(make_span(started, **fields))


async def test_a_completion_says_which_of_its_spans_is_bad_and_changes_nothing(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    spans = [make_span(started, 1), make_span(started, 2, attributes={"x": float("nan")})]
    with pytest.raises(agl.InvalidRequestError, match=r"spans\[1\].attributes\['x'\]"):
        await store.complete_attempt(started.rollout_id, started.attempt.attempt_id, spans=spans)
    assert await store.query_spans(started.rollout_id) == []


async def test_a_rollouts_attempts_share_one_count_that_explicit_numbers_raise(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    ids = (started.rollout_id, started.attempt.attempt_id)
    assert await store.get_next_span_sequence_id(*ids) == 1
    await store.add_span(make_span(started, 100))
    assert await store.get_next_span_sequence_id(started.rollout_id, "at-unknown") == 101
    await store.add_span(make_span(started, 5))
    assert await store.get_next_span_sequence_id(*ids) == 102


async def test_numbers_may_be_used_twice_and_backwards(store: agl.LightningStoreClient, make_span: MakeSpan) -> None:
    started = await store.start_rollout("task")
    for number, sequence_id in enumerate([9, 3, 9], start=1):
        await store.add_span(make_span(started, number, sequence_id=sequence_id))
    assert [span.sequence_id for span in await store.query_spans(started.rollout_id)] == [3, 9, 9]


async def test_many_numbers_are_set_aside_in_the_order_asked(store: agl.LightningStoreClient) -> None:
    first, other = await store.start_rollout("task"), await store.start_rollout("other")
    pairs = [(rollout.rollout_id, rollout.attempt.attempt_id) for rollout in (first, other, first, first)]
    assert await store.get_many_span_sequence_ids(pairs) == [1, 1, 2, 3]
    assert await store.get_many_span_sequence_ids([]) == []
    assert await store.get_next_span_sequence_id("ro-unknown", "at-unknown") == 1


async def test_spans_of_opentelemetry_are_numbered_as_they_come(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    spans = [tracer.start_span(f"work {number}", attributes={"n": number}) for number in range(5)]
    for span in spans:
        span.end()
    ids = (started.rollout_id, started.attempt.attempt_id)
    stored = await asyncio.gather(*(store.add_otel_span(*ids, span) for span in spans))
    assert sorted(span.sequence_id for span in stored if span) == [1, 2, 3, 4, 5]
    assert await store.add_otel_span(*ids, spans[0]) is None
    read = await store.query_spans(started.rollout_id, name="work 3")
    assert (read[0].attributes, read[0].scope and read[0].scope.name) == ({"n": 3}, "t")


async def test_a_span_of_opentelemetry_may_bring_its_number(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("work")
    span.end()
    stored = await store.add_otel_span(started.rollout_id, started.attempt.attempt_id, span, sequence_id=100)
    assert stored is not None
    assert stored.sequence_id == 100


async def test_what_a_span_knows_beyond_its_model_comes_back(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    span = make_span(
        started,
        colour={"name": "red", "rgb": [255, 0, 0]},
        status=agl.TraceStatus(status_code="ERROR", why="no room"),
        events=[agl.Event(name="e", attributes={"a": 1}, weight=2)],
        links=[agl.Link(context=agl.SpanContext(trace_id="1" * 32, span_id="1" * 16, via="mail"), attributes={}, n=1)],
    )
    await store.add_span(span)
    [read] = await store.query_spans(started.rollout_id)
    assert (read.model_extra, read.status, read.events, read.links) == (
        {"colour": {"name": "red", "rgb": [255, 0, 0]}},
        span.status,
        span.events,
        span.links,
    )
    assert read.attributes == {}


async def test_an_attribute_by_the_name_of_ours_that_is_not_ours_hurts_no_reader(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    for number, text in enumerate(["{oops", "[1]", '{"span": {"name": "forged", "rollout_id": 3}}'], start=1):
        await store.add_span(make_span(started, number, attributes={"agentlightning.extra_fields": text}))
    read = await store.query_spans(started.rollout_id)
    assert [span.name for span in read] == ["span-1", "span-2", "span-3"]
    assert read[0].attributes == {"agentlightning.extra_fields": "{oops"}


async def test_a_late_span_is_kept_and_heard_of_and_changes_no_status(
    store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    await store.update_attempt(started.rollout_id, "latest", status="timeout")
    assert await store.add_span(make_span(started)) is not None
    read = await store.get_rollout_by_id(started.rollout_id)
    assert isinstance(read, agl.AttemptedRollout)
    assert (read.status, read.attempt.status) == ("failed", "timeout")
    assert read.attempt.last_heartbeat_time is not None


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("any", {"agentlightning.reward.0.value": 0.5}),
        ("any", {"agentlightning.reward.0.value": True}),
        ("any", {"agentlightning.reward.0.value": "0.5"}),
        ("any", {"agentlightning.reward.1.value": 0.5}),
        ("any", {"reward": 0.5}),
        ("agentlightning.annotation", {"reward": 0.5}),
        ("agentlightning.annotation", {"reward": 0.5, "agentops.task.output": '{"type": "reward", "value": 1}'}),
        ("grade.task", {"agentops.entity.output": {"type": "reward", "value": 0.5}}),
        ("grade.task", {"agentops.entity.output": {"type": "answer", "value": 0.5}}),
    ],
)
async def test_the_store_reads_the_same_rewards_as_the_readers_of_spans(
    store: agl.LightningStoreClient, make_span: MakeSpan, name: str, attributes: dict[str, object]
) -> None:
    started = await store.start_rollout("task")
    await store.add_span(make_span(started, name=name, attributes=attributes))
    attempt = await store.get_latest_attempt(started.rollout_id)
    assert attempt is not None
    assert attempt.final_reward == agl.find_final_reward(await store.query_spans(started.rollout_id))
