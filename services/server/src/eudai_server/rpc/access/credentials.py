"""What callers present to prove who they are, whatever its kind."""

from typing import Protocol

from eudai_server.core.access import Principal


class Credentials(Protocol):
    """The valid credentials of one version of a file. `now_s` is in seconds since 1970."""

    def find(self, text: str, now_s: float) -> Principal | None:
        """The principal of a credential; None if it is not valid."""

    def has(self, principal: Principal, now_s: float) -> bool:
        """Whether the credential of a principal is still valid and gives the same rights."""
