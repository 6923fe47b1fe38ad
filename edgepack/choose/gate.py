"""The accuracy gate: a candidate is as good as the float model, but for what the user allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edgepack.artifact import ModelFile
from edgepack.errors import DataError
from edgepack.prove.accuracy import Metric
from edgepack.prove.agreement import Agreement, Judge, agreement
from edgepack.prove.engine import Tensors, answer_each
from edgepack.runtimes import Provider

#: Points of 100 that may be lost when nobody says otherwise: against labels, and against the float model's answers alone.
MAX_DROP, MAX_DISAGREEMENT = 0.5, 1.0

#: Gives each feed, with its labels where there are any; it is called again for each reading.
Feeds = Callable[[], Iterator[tuple[Tensors, NDArray[Any] | None]]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One candidate at the gate.

    Attributes:
        score, reference: the candidate's and the float model's.
        drop: by how much it is worse, in the metric's unit.
        output, judged_by: of agreement, the output that agrees least, and by what it was judged.
    """

    score: float
    reference: float
    drop: float
    holds: bool
    output: str = ""
    judged_by: Judge | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is measured, on what, and how much worse it may be.

    Attributes:
        metric: None: agreement with the float model, which needs no labels.
        max_drop: in the metric's unit.
        origin, digest: of the samples: what kind of data they are, and the SHA-256 of their content.
    """

    metric: Metric | None
    max_drop: float
    feeds: Feeds
    samples: int
    origin: str
    digest: str
    _known: dict[tuple[str, str, str], Measured] = field(default_factory=dict, compare=False)
    _references: dict[str, float] = field(default_factory=dict, compare=False)
    _judged: dict[str, Judge] = field(default_factory=dict, compare=False)

    @property
    def judged_by(self) -> Mapping[str, Judge]:
        """Of agreement, once something was measured: by what each output was judged, "classes" or "values"."""
        return self._judged

    @property
    def name(self) -> str:
        """Of what is measured."""
        return "agreement" if self.metric is None else self.metric.name

    @property
    def unit(self) -> str:
        """Of a drop: "points", or "" for the labels' own."""
        return "points" if self.metric is None else self.metric.unit

    def measured(
        self, model: ModelFile, float_model: ModelFile, engine: Provider | None = None
    ) -> Measured:
        """The candidate `model` against the float model it was made from; the same two are measured once.

        Args: engine: what runs the candidate; None: onnxruntime.

        Raises:
            StepError: onnxruntime cannot run one of them. DataError, UsageError: the labels or the metric do not fit the outputs.
        """
        key = (
            model.sha256,
            float_model.sha256,
            engine.model_dump_json() if engine else "",
        )
        if key not in self._known:
            self._known[key] = self._measured(model, float_model, engine)
        return self._known[key]

    def _measured(
        self, model: ModelFile, float_model: ModelFile, engine: Provider | None
    ) -> Measured:
        output, judge = "", None
        if self.metric is None:
            outputs = self._agreement(model, float_model, engine)
            output = min(outputs, key=lambda name: outputs[name].points)
            score, judge, reference = outputs[output].points, outputs[output].judged_by, 100.0
            drop = reference - score
        else:
            reference = self._reference(float_model)
            score = self._score(model, engine)
            drop = self.metric.drop(reference, score)
        # A NaN is no score: it never holds.
        return Measured(
            score=score,
            reference=reference,
            drop=drop,
            holds=bool(drop <= self.max_drop),
            output=output,
            judged_by=judge,
        )

    def _agreement(
        self, model: ModelFile, float_model: ModelFile, engine: Provider | None
    ) -> dict[str, Agreement]:
        both = zip(self._answers(model, engine), self._answers(float_model), strict=True)
        outputs = agreement(both)
        self._judged.update({name: o.judged_by for name, o in outputs.items()})
        return outputs

    def _reference(self, float_model: ModelFile) -> float:
        """The float model's own score: all candidates made from it share it.

        Raises:
            DataError: it is no number.
        """
        if float_model.sha256 not in self._references:
            score = self._score(float_model)
            if not math.isfinite(score):
                raise DataError(
                    f"the float model's own {self.name} is {score}: nothing can be measured against that",
                    "check that the labels and the samples' preprocessing are the model's own, and the metric its outputs'",
                )
            self._references[float_model.sha256] = score
        return self._references[float_model.sha256]

    def _answers(self, model: ModelFile, engine: Provider | None = None) -> Iterator[Tensors]:
        return answer_each(model.path, (feed for feed, _ in self.feeds()), engine=engine)

    def _score(self, model: ModelFile, engine: Provider | None = None) -> float:
        assert self.metric is not None
        labels = (label for _, label in self.feeds() if label is not None)
        return self.metric.score(zip(self._answers(model, engine), labels, strict=True))
