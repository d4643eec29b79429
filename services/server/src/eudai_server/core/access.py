"""Who a caller is and what it may do, whatever kind of credential it presented."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate

from eudai_server.core.call_limits import UNLIMITED, CallLimits
from eudai_server.core.errors import ModelNotFoundError, Reason, ServiceError
from eudai_server.core.model_name import ModelName, key_of


class Scope(StrEnum):
    """What a principal may do or see. Each RPC needs one of these, or none."""

    GENERATE = "generate"
    EMBED = "embed"
    MODELS_READ = "models.read"
    MODELS_ADMIN = "models.admin"
    SERVER_READ = "server.read"
    # No RPC needs it. Whoever lacks it does not learn how long exactly the backend took for a
    # prompt, which depends on the prompts of others.
    TIMINGS = "timings"


ALL_SCOPES = frozenset(Scope)


def scopes_from(names: Iterable[str]) -> frozenset[Scope]:
    """Scopes by their names. Raises ValueError with a message that lists the valid names."""
    names = list(names)
    if not names or not set(names) <= set(Scope):
        raise ValueError(f"must be scopes separated by commas: {', '.join(Scope)}")
    return frozenset(map(Scope, names))


class ModelPatterns:
    """The models that a principal may use, as shell patterns such as `gemma3:*`."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """A pattern without `*`, `?` and `[` is a reference, so `gemma3` is `gemma3:latest`.

        A pattern matches a whole name, the host included, so `gemma3:*` does not match
        `example.com/gemma3:latest`.
        """
        self.patterns = tuple(patterns)
        keys = [
            pattern.lower() if re.search(r"[*?[]", pattern) else key_of(pattern)
            for pattern in patterns
        ]
        self._matches = re.compile("|".join(map(translate, keys)) or r"(?!)").match

    def __eq__(self, other: object) -> bool:
        """Whether the patterns are equal."""
        return isinstance(other, ModelPatterns) and self.patterns == other.patterns

    def __hash__(self) -> int:
        """Equal for equal patterns."""
        return hash(self.patterns)

    def allow(self, key: str) -> bool:
        """Whether a model may be used. `key` is its `ModelName.key`."""
        return self._matches(key) is not None


ALL_MODELS = ModelPatterns(["*"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller, or a stranger."""

    # Unique among the principals of one server; empty for a stranger.
    name: str = ""
    # Of the credential that it presented; empty if there is none.
    credential_id: str = ""
    # In seconds since 1970.
    expires_s: float = math.inf
    scopes: frozenset[Scope]
    models: ModelPatterns = ALL_MODELS
    limits: CallLimits = UNLIMITED

    def require_scope(self, scope: Scope) -> None:
        """Raise SCOPE_MISSING if the principal lacks a scope."""
        if scope not in self.scopes:
            who = "the credential" if self.name else "a caller without a credential"
            raise ServiceError(
                Reason.SCOPE_MISSING,
                f"{who} does not have the scope {scope}, which this RPC needs",
                metadata={"scope": scope},
            )

    def require_model(self, model: ModelName) -> None:
        """Raise ModelNotFoundError if the principal may not use a model.

        The principal cannot find out whether such a model exists.
        """
        if not self.models.allow(model.key):
            raise ModelNotFoundError(model.listed)

    def require_changeable(self, model: ModelName) -> None:
        """Raise MODEL_FORBIDDEN if the principal may not create or change a model of this name."""
        if not self.models.allow(model.key):
            raise ServiceError(
                Reason.MODEL_FORBIDDEN,
                "the credential does not allow models of this name",
                metadata={"model": model.listed},
            )


# A caller without any right.
NOBODY = Principal(scopes=frozenset())
