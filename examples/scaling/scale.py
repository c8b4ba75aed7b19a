"""Set the number of runners in Kubernetes by the work that their queue has; what scale.yaml runs once a minute.

Speaks to the store as any client does, and to the API of Kubernetes with the service account of its pod.
"""

import argparse
import asyncio
import json
import math
import ssl
from pathlib import Path
from urllib.request import Request, urlopen

import agentlightning as agl

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="the store's address")
    parser.add_argument("--queue", default="default", help="the queue of the runners (default: %(default)s)")
    parser.add_argument("--deployment", required=True, help="the Deployment of the runners")
    parser.add_argument("--per-runner", type=int, default=1, help="rollouts that one runner does at once")
    parser.add_argument("--least", type=int, default=0, help="keep so many when there is nothing to do")
    parser.add_argument("--most", type=int, required=True, help="start no more than so many")
    parser.add_argument("--api", default="https://kubernetes.default.svc", help="the API of Kubernetes")
    parser.add_argument("--account", type=Path, default=ACCOUNT, help="the folder of the service account")
    return parser


async def rollouts_to_do(store: str, queue: str, deployment: str) -> int:
    """What waits in the queue, and what the runners of the deployment have in hand: their names begin with its."""
    statistics = await agl.LightningStoreClient(store, retry_seconds=30).statistics()
    workers = statistics["live_attempts"].items()
    in_hand = sum(count for worker, count in workers if worker.startswith(f"{deployment}-"))
    return statistics["queued"].get(queue, 0) + in_hand


def scale(api: str, account: Path, deployment: str, replicas: int) -> None:
    """Tell Kubernetes how many runners there should be."""
    namespace, token = ((account / name).read_text().strip() for name in ("namespace", "token"))
    request = Request(
        f"{api}/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}/scale",
        method="PATCH",
        data=json.dumps({"spec": {"replicas": replicas}}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"},
    )
    trust = ssl.create_default_context(cafile=str(account / "ca.crt")) if api.startswith("https:") else None
    with urlopen(request, context=trust, timeout=10):
        pass


def main() -> None:
    """Look once, and scale."""
    given = arguments().parse_args()
    to_do = asyncio.run(rollouts_to_do(given.store, given.queue, given.deployment))
    replicas = min(max(math.ceil(to_do / given.per_runner), given.least), given.most)
    scale(given.api, given.account, given.deployment, replicas)
    print(f"{to_do} rollouts to do: {replicas} runners")


if __name__ == "__main__":
    main()
