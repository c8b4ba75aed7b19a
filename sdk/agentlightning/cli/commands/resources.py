"""`agl resources`: what agents were given, what an edit changed, and the best of it in a file."""

import argparse
import difflib
from pathlib import Path
from typing import Any

from agentlightning.cli.errors import NotUnderstoodError
from agentlightning.cli.show import output
from agentlightning.cli.which import ids
from agentlightning.errors import NotFoundError
from agentlightning.store import LightningStoreClient
from agentlightning.types import PromptTemplate, Resource, ResourcesUpdate

_WHICH = "the resources' id, or how it begins; @N after it for version N (default: the last)"


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    resources = commands.add_parser("resources", help="prompts and what else is tuned: list, show, diff, export")
    verbs = resources.add_subparsers(required=True, metavar="COMMAND")
    listing = verbs.add_parser(
        "list",
        parents=[common],
        help="resources, newest first",
        description="List resources, newest first, each in its last version.",
        epilog="example: agl resources list --run run-4f1c",
    )
    listing.add_argument("--run", help="only those of this run")
    listing.add_argument("--all", action="store_true", help="every version of each")
    listing.set_defaults(coroutine=list_resources)
    showing = verbs.add_parser(
        "show",
        parents=[common],
        help="what is in resources",
        description="Show what is in resources, each prompt as it is.",
        epilog="example: agl resources show rs-81d2@3",
    )
    showing.add_argument("resources", metavar="RESOURCES", help=_WHICH)
    showing.set_defaults(coroutine=show_resources)
    _add_diff(verbs, common)
    _add_export(verbs, common)


def _add_diff(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "diff",
        parents=[common],
        help="what changed between two",
        description="Show what changed between two resources or versions, as a unified diff. With one, what changed "
        "since the version before it, or since those that it was derived from.",
        epilog="example: agl resources diff rs-81d2@1 rs-81d2@3",
    )
    parser.add_argument("resources", metavar="RESOURCES", help=_WHICH)
    parser.add_argument("other", metavar="OTHER", nargs="?", help="what to compare it with")
    parser.set_defaults(coroutine=diff_resources)


def _add_export(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "export",
        parents=[common],
        help="a prompt as a file",
        description="Write a prompt to a file, which agl.PromptTemplate.load reads; other resources as JSON.",
        epilog="example: agl resources export --best run-4f1c --to prompt.txt",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("resources", metavar="RESOURCES", nargs="?", help=_WHICH)
    which.add_argument("--best", metavar="RUN", help="the best resources of this run")
    parser.add_argument("--name", help="which of them, where there are several (default: the only prompt)")
    parser.add_argument("--to", metavar="FILE", type=Path, help="the file (default: print it)")
    parser.set_defaults(coroutine=export_resources)


async def list_resources(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print a line for each of the resources."""
    store = client
    if arguments.run is not None:
        store = client.bind(run_id=(await ids.run(client, arguments.run)).run_id)
    found = await store.query_resources(all_versions=arguments.all, sort_order="desc")
    if arguments.json:
        output.print_json([_told(update) for update in found])
        return 0
    rows = [
        (
            f"{update.resources_id}@{update.version}",
            output.when(update.update_time),
            update.run_id,
            _derived_from(update),
            ", ".join(f"{name}: {_in_short(resource)}" for name, resource in update.resources.items()),
        )
        for update in found
    ]
    output.print_table(("resources", "written", "run", "from", "content"), rows)
    return 0


async def show_resources(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print what is in resources."""
    update = await ids.resources(client, arguments.resources)
    if arguments.json:
        output.print_json(_told(update))
        return 0
    output.print_fields(
        [
            ("resources", f"{update.resources_id}@{update.version}"),
            ("written", output.moment(update.update_time)),
            ("run", update.run_id),
            ("from", _derived_from(update)),
        ]
    )
    for name, resource in update.resources.items():
        print(f"\n{name} ({resource.resource_type})\n{_text(resource)}")
    return 0


async def diff_resources(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print what changed, resource by resource; nothing when nothing did."""
    after = await ids.resources(client, arguments.other or arguments.resources)
    before = await (_before(client, after) if arguments.other is None else ids.resources(client, arguments.resources))
    lines = [line for name in {**before.resources, **after.resources} for line in _diff(before, after, name)]
    if arguments.json:
        output.print_json({"before": _told(before), "after": _told(after), "diff": lines})
    else:
        print("\n".join(lines) if lines else "no difference")
    return 0


async def export_resources(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Write one of the resources to a file, or print it."""
    update = await _exported(client, arguments)
    name = arguments.name or _only_prompt(update)
    if name not in update.resources:
        raise NotFoundError(f"{update.resources_id} has no resource {name!r}; it has: {', '.join(update.resources)}")
    resource = update.resources[name]
    if arguments.to is None:
        print(output.to_json(resource.model_dump(exclude={"api_key"})) if arguments.json else _text(resource))
        return 0
    path = _write(resource, arguments.to)
    told = {"path": str(path), "resources_id": update.resources_id, "version": update.version, "name": name}
    output.print_json(told) if arguments.json else print(path)
    return 0


async def _exported(client: LightningStoreClient, arguments: argparse.Namespace) -> ResourcesUpdate:
    if arguments.best is None:
        return await ids.resources(client, arguments.resources)
    run = await ids.run(client, arguments.best)
    if run.best_resources_id is None:
        raise NotFoundError(f"run {run.run_id} ({run.algorithm}, {run.status}) has named no best resources")
    return await ids.resources(client, f"{run.best_resources_id}@{run.best_resources_version}")


async def _before(client: LightningStoreClient, update: ResourcesUpdate) -> ResourcesUpdate:
    """The version before, or what the first was derived from."""
    if update.version > 1:
        return await ids.resources(client, f"{update.resources_id}@{update.version - 1}")
    if update.parent_resources_id is None:
        raise NotUnderstoodError(f"{update.resources_id}@1 is the first and derived from nothing: name another")
    return await ids.resources(client, f"{update.parent_resources_id}@{update.parent_version}")


def _told(update: ResourcesUpdate) -> dict[str, Any]:
    """Resources as JSON, without the keys of APIs: what is printed is shown around."""
    told = {name: resource.model_dump(exclude={"api_key"}) for name, resource in update.resources.items()}
    return {**update.model_dump(exclude={"resources"}), "resources": told}


def _derived_from(update: ResourcesUpdate) -> str:
    return f"{update.parent_resources_id}@{update.parent_version}" if update.parent_resources_id else ""


def _diff(before: ResourcesUpdate, after: ResourcesUpdate, name: str) -> list[str]:
    old, new = (_text(at.resources[name]).splitlines() if name in at.resources else [] for at in (before, after))
    title, titled = (f"{update.resources_id}@{update.version} {name}" for update in (before, after))
    return [*difflib.unified_diff(old, new, title, titled, lineterm="")]


def _only_prompt(update: ResourcesUpdate) -> str:
    prompts = [name for name, resource in update.resources.items() if isinstance(resource, PromptTemplate)]
    names = prompts or [*update.resources]
    if len(names) == 1:
        return names[0]
    raise NotUnderstoodError(f"{update.resources_id} has several: choose with --name {' or '.join(names) or 'NAME'}")


def _in_short(resource: Resource) -> str:
    return output.one_line(resource.template if isinstance(resource, PromptTemplate) else _text(resource))


def _text(resource: Resource) -> str:
    """A prompt as it is; other resources as JSON, without the key of an API."""
    if isinstance(resource, PromptTemplate):
        return resource.template
    return resource.model_dump_json(indent=2, exclude={"api_key"})


def _write(resource: Resource, path: Path) -> Path:
    if isinstance(resource, PromptTemplate):
        return resource.save(path)
    path.write_text(_text(resource) + "\n", encoding="utf-8")
    return path
