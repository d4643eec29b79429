"""An enumeration whose values are its names, so that each edge can map them to its own enum."""

from enum import StrEnum


class NamedEnum(StrEnum):
    """The base of the enumerations that the contract has too; `auto()` gives the name."""

    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name
