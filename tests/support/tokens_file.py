"""A tokens file that a test changes."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from eudai_server.core.access import ALL_SCOPES, Scope
from eudai_server.rpc.access.tokens import Entry, data_from, entry_for, new_token

Metadata = tuple[tuple[str, str], ...]


class TokensFile:
    """The file, and the entries that `write` puts into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.write()

    def add(
        self,
        scopes: Iterable[Scope] = ALL_SCOPES,
        models: Iterable[str] = ("*",),
        expires: datetime | None = None,
        **limits: int,
    ) -> Metadata:
        """Add a token; returns the metadata that presents it."""
        token_id, token = new_token()
        entry = entry_for(
            token_id,
            token,
            name=f"name-{len(self.entries)}",
            scopes=scopes,
            models=models,
            expires=expires,
            limits=limits,
        )
        self.entries.append(entry)
        self.write()
        return (("authorization", f"Bearer {token}"),)

    def write(self) -> None:
        """Write the file."""
        self.path.write_bytes(data_from(self.entries))
