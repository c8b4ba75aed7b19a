"""Resources: immutable versions, the latest of a run and of the store."""

import agentlightning as agl


async def test_resources_are_versions_that_never_change(store: agl.LightningStoreClient) -> None:
    first = await store.add_resources({"prompt_template": "Hi {name}", "settings": {"k": 1}})
    second = await store.update_resources(first.resources_id, {"prompt_template": "Hello {name}"})
    assert (first.version, second.version) == (1, 2)

    kept = await store.get_resources_by_id(first.resources_id, version=1)
    assert kept is not None
    assert kept.resources["prompt_template"] == agl.PromptTemplate(template="Hi {name}")
    assert kept.resources["settings"] == agl.CustomResource(value={"k": 1})


async def test_resources_keep_the_order_they_were_given_in(store: agl.LightningStoreClient) -> None:
    written = await store.add_resources({"second": "b", "first": "a", "third": "c"})
    read = await store.get_resources_by_id(written.resources_id)
    assert read is not None
    assert list(read.resources) == ["second", "first", "third"]


async def test_a_rollout_pins_the_resources_it_was_enqueued_with(store: agl.LightningStoreClient) -> None:
    resources = await store.add_resources({"prompt_template": "one"})
    rollout = await store.enqueue_rollout("task", resources_id=resources.resources_id)
    await store.update_resources(resources.resources_id, {"prompt_template": "two"})
    assert (rollout.resources_id, rollout.resources_version) == (resources.resources_id, 1)


async def test_a_bound_store_finds_the_latest_resources_of_its_run_first(store: agl.LightningStoreClient) -> None:
    run = await store.create_run("APO")
    bound = store.bind(run_id=run.run_id, queue=run.queue)
    mine = await bound.add_resources({"prompt_template": "mine"})
    await store.add_resources({"prompt_template": "somebody else's"})
    latest = await bound.get_latest_resources()
    assert latest is not None
    assert latest.resources_id == mine.resources_id


async def test_every_kind_of_resource_comes_back_as_it_was(store: agl.LightningStoreClient) -> None:
    resources = {
        "llm": agl.LLM(endpoint="http://m/v1", model="m", api_key="k", sampling_parameters={"temperature": 0.7}),
        "proxy": agl.ProxyLLM(endpoint="http://p/v1", model="m"),
        "prompt": agl.PromptTemplate(template="Hi {{ name }}", engine="jinja"),
        "custom": agl.CustomResource(value=[1, {"a": None}]),
    }
    added = await store.add_resources(resources)
    assert added.resources == resources
    read = await store.get_resources_by_id(added.resources_id)
    assert read == added
    assert (added.version, added.create_time) == (1, added.update_time)
    assert added.resources_id.startswith("rs-")
    assert len(added.resources_id) == 15


async def test_an_update_of_what_is_not_there_makes_it(store: agl.LightningStoreClient) -> None:
    made = await store.update_resources(f"{store.queue}-mine", {})
    assert (made.resources_id, made.version, made.resources) == (f"{store.queue}-mine", 1, {})


async def test_an_update_keeps_when_the_first_was_made(store: agl.LightningStoreClient) -> None:
    first = await store.add_resources({"prompt": "one"})
    second = await store.update_resources(first.resources_id, {"prompt": "two"})
    assert (second.version, second.create_time) == (2, first.create_time)
    assert second.update_time > first.update_time


async def test_the_latest_are_those_written_last(store: agl.LightningStoreClient) -> None:
    first = await store.add_resources({"prompt": "one"})
    await store.add_resources({"prompt": "two"})
    updated = await store.update_resources(first.resources_id, {"prompt": "three"})
    assert await store.get_latest_resources() == updated
    assert (await store.enqueue_rollout("task")).resources_id == first.resources_id


async def test_derived_resources_name_their_parent(store: agl.LightningStoreClient) -> None:
    parent = await store.add_resources({"prompt": "one"})
    assert (parent.parent_resources_id, parent.parent_version) == (None, None)
    child = await store.add_resources({"prompt": "two"}, parent=parent)
    read = await store.get_resources_by_id(child.resources_id)
    assert read is not None
    assert (read.parent_resources_id, read.parent_version) == (parent.resources_id, 1)


async def test_what_is_not_there_is_none(store: agl.LightningStoreClient) -> None:
    assert await store.get_resources_by_id("rs-unknown") is None
    added = await store.add_resources({"prompt": "one"})
    assert await store.get_resources_by_id(added.resources_id, version=2) is None
