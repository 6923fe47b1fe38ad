"""A second opinion: a vendor's real parser, where one can be had, asked in a process of its own.

Its verdict is about that parser and nothing else; `Verdict.said` names it for what it is.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepack import proc
from edgepack.artifact import Format, ModelFile
from edgepack.errors import EnvironmentMissing, UsageError
from edgepack.legality.tables import Opinion

_TIMEOUT_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One thing the parser does not take, in its own words."""

    node: str
    operator: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a parser said.

    Attributes:
        who: the parser with its version.
        parsed: it took the graph.
        compiled_for: the compute capability it compiled the graph for; empty where it did not.
        rejections: what it did not take.
    """

    who: str
    stands_for: str
    parsed: bool
    compiled_for: str
    rejections: tuple[Rejection, ...]

    @property
    def said(self) -> str:
        """One sentence that names the verdict for what it is."""
        if not self.parsed:
            what = "rejected by"
        elif self.compiled_for:
            what = f"parsed, and compiled for {self.compiled_for}, by"
        else:
            what = "parsed, but not compiled, by"
        return f"{what} {self.who}, not by {self.stands_for}"

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "said": self.said}


def ask(opinion: Opinion, model: ModelFile) -> Verdict:
    """What a parser says of an ONNX model.

    Raises:
        EnvironmentMissing: it is not installed, or its process died; with the command that installs it, or its last words.
        UsageError: the model is in ORT format, which it does not read.
    """
    if model.format is not Format.ONNX:
        raise UsageError(
            f"{opinion.title} reads .onnx alone, and {model.path.name} is in ORT format",
            "ask it of the model the bundle was made from",
        )
    with tempfile.TemporaryDirectory(prefix="edgepack-") as scratch:
        answer = Path(scratch) / "answer.json"
        done = proc.run(
            [
                sys.executable,
                "-m",
                "edgepack.legality.opinion_child",
                opinion.module,
                str(model.path.resolve()),
                opinion.compute_capability,
                str(answer),
            ],
            cwd=Path(scratch),
            timeout_s=_TIMEOUT_S,
        )
        if not answer.is_file():
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise EnvironmentMissing(
                f"{opinion.title}'s parser ended with {done.returncode}: {last[0]}",
                "check the model without --second-opinion",
            )
        data = json.loads(answer.read_text(encoding="utf-8"))
    if "missing" in data:
        raise EnvironmentMissing(
            f"{opinion.title} is not installed ({data['missing']})",
            f"pip install 'edgepack[{opinion.extra}]' (a proprietary licence of its vendor's)",
        )
    return Verdict(
        who=f"{opinion.title} {data['version']}",
        stands_for=opinion.stands_for,
        parsed=data["parsed"],
        compiled_for=data["compiled_for"],
        rejections=tuple(Rejection(**r) for r in data["rejections"]),
    )
