"""The list of rules, in the order in which they are checked.

A rule is a function that raises RuleError if the server breaks it. Its name and its docstring are
what the check prints.
"""

from collections.abc import Callable

from eudai.conformance.calls import RuleError, Subject

Rule = Callable[[Subject], None]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Add a rule to the list."""
    RULES.append(function)
    return function


def require(condition: object, message: str) -> None:
    """Raise RuleError unless the condition holds."""
    if not condition:
        raise RuleError(message)
