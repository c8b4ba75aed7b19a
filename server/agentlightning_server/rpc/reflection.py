"""Server reflection, so that grpcurl needs no file: what serves it knows only descriptors."""

from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection

SERVICE_NAME: str = reflection.SERVICE_NAME


def add_reflection_to_server(services: tuple[str, ...], server: grpc.aio.Server) -> None:
    """Describe the services, by their full names."""
    reflection.enable_server_reflection(services, server, pool=_Pool())


class _Pool:
    """The descriptors of this process. Asked for the file of a call it finds it, which protobuf's own pool does not."""

    _pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, name: str) -> Any:
        try:
            return self._pool.FindFileContainingSymbol(name)
        except KeyError:
            return self._pool.FindMethodByName(name).containing_service.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
