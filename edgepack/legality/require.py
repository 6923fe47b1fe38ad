"""Hold a model against a profile's rules."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.artifact import ModelFile
from edgepack.errors import LegalityError
from edgepack.legality.finding import Finding
from edgepack.legality.graph import GraphView
from edgepack.legality.registry import rules_for
from edgepack.targets import TargetProfile

#: How many findings an error spells out; `edgepack check` shows them all.
_SHOWN = 8


def findings_in(graph: GraphView, profile: TargetProfile, precision: str) -> tuple[Finding, ...]:
    """Everything in `graph` that breaks one of the profile's rules, errors first."""
    found = [f for rule in rules_for(profile, precision) for f in rule.findings(graph)]
    return tuple(sorted(found, key=lambda f: f.severity != "error"))


def require_legal(model: ModelFile, profile: TargetProfile, precision: str) -> tuple[Finding, ...]:
    """The warnings of a model that is legal on the profile's device.

    Raises:
        LegalityError: it breaks a rule; lists the findings, and what to do about the first.
    """
    found = findings_in(GraphView.of(model), profile, precision)
    errors = [f for f in found if f.severity == "error"]
    if errors:
        raise illegal(errors, profile.name, precision)
    return found


def illegal(errors: Sequence[Finding], target: str, precision: str) -> LegalityError:
    """The error that lists `errors`."""
    shown = "".join(f"\n  {f}" + (f" [{f.source}]" if f.source else "") for f in errors[:_SHOWN])
    more = f"\n  and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    count = "one thing" if len(errors) == 1 else f"{len(errors)} things"
    return LegalityError(
        f"{target}: the {precision} graph has {count} that the device does not take:{shown}{more}",
        errors[0].fix,
    )
