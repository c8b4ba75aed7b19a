"""The address of a store, as all who reach one read it. Knows neither gRPC nor the client, and loads in an instant."""

from typing import Final
from urllib.parse import urlsplit

from agentlightning.errors import InvalidRequestError

DEFAULT_PORT: Final = 4747
_SCHEMES: Final = {"": False, "http": False, "grpc": False, "https": True, "grpcs": True}


def parse_address(address: str) -> tuple[str, bool]:
    """The gRPC target of an address, and whether it is reached over TLS.

    Raises:
        InvalidRequestError: It is not an address.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        port = 0
    if parts.scheme not in _SCHEMES or not parts.hostname or not port or parts.path not in ("", "/"):
        raise InvalidRequestError(
            f"address is {address!r}, expected host:port, or that after http://, grpc://, https:// or grpcs://",
            code="INVALID_ARGUMENT",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}", _SCHEMES[parts.scheme]
