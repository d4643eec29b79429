"""Parses the values of environment variables.

Each function takes a text that is not empty, and raises ValueError with what to change.
"""

import math
import re
from collections.abc import Callable
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from eudai_server.core.access import Scope, scopes_from
from eudai_server.core.call_limits import CallLimits, limits_from
from eudai_server.rpc.access.client_certificate import WorkloadNames

# The host may be an IPv4 address, an IPv6 address or a name.
_ADDRESS = re.compile(
    r"unix:[^\0]+|(?:\[(?P<ipv6>[0-9a-f:.]+)\]|[0-9a-z_.-]+):(?P<port>\d{1,5})",
    re.IGNORECASE | re.ASCII,
)
# One week. A longer time is a mistake, and overflows the timers of some platforms.
SECONDS_MAX = 7 * 24 * 3600
PORT_MAX = 65535
COUNT_MAX = 10_000
DIGITS_MAX = 10


def parse_switch(text: str) -> bool:
    """True or false."""
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def parse_count(least: int, most: int = COUNT_MAX) -> Callable[[str], int]:
    """A parser of whole numbers between `least` and `most`."""

    def parse(text: str) -> int:
        if not _is_number(text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number between {least} and {most}")
        return int(text)

    return parse


def parse_seconds(text: str) -> float:
    """A number of seconds, at most a week."""
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError("must be a number of seconds, such as 2.5") from None
    if not math.isfinite(seconds) or not 0 <= seconds <= SECONDS_MAX:
        raise ValueError(f"must be between 0 and {SECONDS_MAX} seconds")
    return seconds


def parse_positive_seconds(text: str) -> float:
    """A number of seconds that is not 0."""
    seconds = parse_seconds(text)
    if seconds == 0:
        raise ValueError("must be more than 0 seconds")
    return seconds


def parse_base_url(text: str) -> str:
    """The URL of Ollama, without a slash at its end."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be an http or https URL, such as http://127.0.0.1:11434")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("must not contain a user, a query or a fragment")
    _ = url.port  # raises ValueError if it is not a valid port
    return text.rstrip("/")


def parse_registries(text: str) -> tuple[str, ...]:
    """Hosts of registries, separated by commas."""
    registries = tuple(part.strip().rstrip("/") for part in text.split(","))
    for registry in registries:
        host = registry.removeprefix("http://").removeprefix("https://")
        if not host or not host.isascii() or any(character in host for character in " /@"):
            raise ValueError(
                "must be hosts separated by commas, such as "
                "registry.ollama.ai,hf.co,http://localhost:5000"
            )
    return registries


def parse_address(text: str) -> str:
    """One address. gRPC would accept several, and other schemes, in ways that hide the host."""
    match = _ADDRESS.fullmatch(text)
    if not match or (match["port"] and int(match["port"]) > PORT_MAX):
        raise ValueError(
            "must be one host:port, such as 127.0.0.1:50051 or [::1]:50051, or unix:/path"
        )
    if match["ipv6"]:
        try:
            IPv6Address(match["ipv6"])
        except ValueError:
            raise ValueError("must have a valid IPv6 address between [ and ]") from None
    return text


def parse_scopes(text: str) -> frozenset[Scope]:
    """Scopes, separated by commas."""
    return scopes_from(part.strip() for part in text.split(","))


def parse_limits(text: str) -> CallLimits:
    """Limits as `name=number`, separated by commas."""
    pairs = [part.partition("=") for part in text.split(",")]
    return limits_from(
        {name.strip(): int(value) if _is_number(value) else value for name, _, value in pairs}
    )


def parse_workloads(text: str) -> WorkloadNames:
    """Names of workloads, separated by commas."""
    return WorkloadNames(tuple(part.strip() for part in text.split(",")))


def _is_number(text: str) -> bool:
    """Whether a text has digits only, and few enough to convert them cheaply."""
    return text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
