"""Reads JSON objects that others wrote: what is missing, or of another type than asked for, is unknown."""

from collections.abc import Mapping
from math import isfinite


class Record:
    """A JSON object, or nothing.

    Args:
        value: What stands where an object is expected.
    """

    def __init__(self, value: object) -> None:
        self.fields: Mapping[str, object] = value if isinstance(value, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self.fields)

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if isfinite(value) else None

    def count(self, name: str) -> int | None:
        """A whole number."""
        value = self.fields.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def counts(self, name: str) -> dict[str, int]:
        """An object whose values are whole numbers, without those that are 0."""
        found = self.record(name)
        return {key: count for key in found.fields if (count := found.count(key))}

    def text(self, name: str) -> str | None:
        """A text that is not empty."""
        value = self.fields.get(name)
        return value if isinstance(value, str) and value else None

    def texts(self, name: str) -> list[str]:
        """The texts of a list."""
        value = self.fields.get(name)
        return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []

    def record(self, name: str) -> "Record":
        """An object."""
        return Record(self.fields.get(name))

    def records(self, name: str) -> list["Record"]:
        """The objects of a list."""
        value = self.fields.get(name)
        return [Record(each) for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
