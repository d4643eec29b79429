"""The command `eudai-server token`: creates, lists and revokes the tokens in EUDAI_TOKENS_FILE."""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from eudai_server.config_values import parse_count, parse_scopes
from eudai_server.core.access import Scope
from eudai_server.core.call_limits import LIMIT_MAX, LIMITS
from eudai_server.core.credentials_file import CredentialsFileError, read_credentials
from eudai_server.rpc.access.tokens import (
    Entry,
    data_from,
    entries_from,
    entry_for,
    new_token,
)

EXIT_FAILED = 1
DAYS_MAX = 3650

T = TypeVar("T")


def run(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Run the command; returns the exit code. Invalid arguments exit with 2."""
    options = _parser(env.get("EUDAI_TOKENS_FILE", "")).parse_args(arguments)
    if not options.file:
        return _fail("EUDAI_TOKENS_FILE is not set; set it, or give --file")
    path = Path(options.file)
    try:
        if options.command == "new":
            return _create(path, options)
        if options.command == "revoke":
            return _revoke(path, options.id)
        return _list(path)
    except CredentialsFileError as error:
        return _fail(f"{path} {error}")
    except OSError as error:
        return _fail(f"{path} cannot be written: {error.strerror}")


def _parser(file: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="eudai-server token", description=__doc__)
    parser.add_argument("--file", default=file, help="the tokens file; default: EUDAI_TOKENS_FILE")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="print a new token once, and store its hash")
    new.add_argument("--name", required=True, help="who or what uses it; unique")
    new.add_argument("--scopes", required=True, type=_option(parse_scopes), help=", ".join(Scope))
    new.add_argument("--models", default="*", help="patterns separated by commas; default: *")
    new.add_argument("--expires", type=_days, help="in days, such as 90d; default: never")
    limit = _option(parse_count(1, LIMIT_MAX))
    for name in LIMITS:
        option = f"--{name.replace('_', '-')}"
        new.add_argument(option, type=limit, metavar="N", help="a limit; default: none")
    commands.add_parser("list", help="list the tokens, without secrets")
    revoke = commands.add_parser("revoke", help="remove a token; its running calls end")
    revoke.add_argument("id", help="the id of the token, or its name")
    return parser


def _create(path: Path, options: argparse.Namespace) -> int:
    entries = _entries_in(path) if path.exists() else ()
    token_id, token = new_token()
    expires = None
    if options.expires:
        expires = datetime.now(UTC).replace(microsecond=0) + options.expires
    models = [pattern.strip() for pattern in options.models.split(",")]
    limits = {name: limit for name in LIMITS if (limit := getattr(options, name))}
    entry = entry_for(
        token_id,
        token,
        name=options.name,
        scopes=options.scopes,
        models=models,
        expires=expires,
        limits=limits,
    )
    _replace(path, [*entries, entry])
    _print(token)
    return 0


def _revoke(path: Path, id_or_name: str) -> int:
    entries = _entries_in(path)
    kept = [entry for entry in entries if id_or_name not in (entry.id, entry.name)]
    if len(kept) == len(entries):
        return _fail(f"{path} has no token {id_or_name!r}; `eudai-server token list` lists them")
    _replace(path, kept)
    return 0


def _entries_in(path: Path) -> tuple[Entry, ...]:
    return entries_from(read_credentials(path))


def _list(path: Path) -> int:
    _print("ID", "NAME", "SCOPES", "MODELS", "LIMITS", "EXPIRES")
    for entry in _entries_in(path):
        expires = entry.expires.isoformat() if entry.expires else "never"
        limits = ",".join(f"{name}={limit}" for name, limit in entry.limits.items()) or "none"
        scopes, models = ",".join(entry.scopes), ",".join(entry.models)
        _print(entry.id, entry.name, scopes, models, limits, expires)
    return 0


def _print(*columns: str) -> None:
    sys.stdout.write("\t".join(columns) + "\n")


def _replace(path: Path, entries: Sequence[Entry]) -> None:
    """Replace the file in one step, so that a running server never reads half of it."""
    data = data_from(entries)
    entries_from(data)  # what this command writes, the server accepts
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
        try:
            new.write(data)
            new.flush()
            os.fsync(new.fileno())
            if path.exists():
                Path(new.name).chmod(path.stat().st_mode & 0o777)
            Path(new.name).replace(path)
        except OSError:
            Path(new.name).unlink()
            raise


def _option(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser for argparse, which shows only the messages of its own errors."""

    def parse_option(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


def _days(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9]\d{0,3})d", text)
    if not match or int(match[1]) > DAYS_MAX:
        raise argparse.ArgumentTypeError(f"must be 1 to {DAYS_MAX} days, such as 90d")
    return timedelta(days=int(match[1]))


def _fail(message: str) -> int:
    sys.stderr.write(f"eudai-server: {message}\n")
    return EXIT_FAILED
