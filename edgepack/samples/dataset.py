"""Samples for every input of a model, checked against it and handed out one feed at a time."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError
from edgepack.samples.checks import checked_labels, checked_rows
from edgepack.samples.rows import MadeRows, Rows, blocks, choose

Feed = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples for each input, and where they came from.

    Rows are either [N, …] where the model's input is [batch, …], or [N, *shape] where one sample is a whole feed.

    Attributes:
        inputs: rows by the input's name.
        source: the name for messages and manifests: a file's, a folder's, `module:function`, "random".
        labels: one row for each sample: a class's number, an array to compare with, or whatever the metric takes.
        classes: names of the classes by number, where the data had names.
        random: noise that was asked for in place of data.
    """

    inputs: Mapping[str, Rows]
    source: str
    labels: Rows | None = None
    classes: tuple[str, ...] = ()
    random: bool = False

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names, dtypes, shapes and values, labels too; images count by their files and the preprocessing."""
        digest = hashlib.sha256()
        for name, rows in sorted(self.inputs.items()):
            _add(digest, name, rows)
        if self.labels is not None:
            _add(digest, "\0labels", self.labels)
        return digest.hexdigest()

    def __len__(self) -> int:
        return min(len(rows) for rows in self.inputs.values())

    def checked(self, specs: Sequence[TensorSpec]) -> Samples:
        """These samples under the names and dtypes of the model's inputs. Reads the values once.

        float64 becomes float32 and wide integers narrow ones where every value fits; anything else must match, since edgepack
        cannot know how a user's 0–255 image becomes a float.

        Raises:
            DataError: names the file, the input, what was expected and what came: a missing or unknown input, a wrong
                shape or dtype, a value that is not finite or too large, no samples, different counts.
        """
        inputs = self.inputs
        if len(inputs) == 1 and len(specs) == 1:
            inputs = {specs[0].name: next(iter(inputs.values()))}
        require_names(inputs, specs, self.source)
        result = {s.name: checked_rows(s, inputs[s.name], self.source) for s in specs}
        counts = {name: len(rows) for name, rows in result.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{n}: {c}" for n, c in counts.items())
            raise DataError(
                f"{self.source}: different numbers of samples ({listed})", "give each the same"
            )
        labels = self.labels
        if labels is not None:
            labels = checked_labels(labels, len(next(iter(result.values()))), self.source)
        return dataclasses.replace(self, inputs=result, labels=labels)

    def feeds(self, specs: Sequence[TensorSpec]) -> Iterator[Feed]:
        """Feeds that fit a model whose inputs are `specs`; free dimensions take one sample at a time.

        Samples that do not fill a last batch are left over.

        Raises:
            DataError: fewer samples than one batch, or samples of another size than a dimension the model fixed.
        """
        for start in self._starts(specs):
            yield self._feed(specs, start)

    def spread_feeds(self, specs: Sequence[TensorSpec], count: int) -> list[Feed]:
        """`count` of the `feeds`, evenly spaced, or all; the others are not read."""
        starts = self._starts(specs)
        step = max(1, len(starts) // count)
        return [self._feed(specs, start) for start in starts[::step][:count]]

    def labelled(self, specs: Sequence[TensorSpec]) -> Iterator[tuple[Feed, NDArray[Any]]]:
        """(feed, the labels [n, …] of the n samples in it), in the order of `feeds`.

        Raises:
            DataError: as `feeds`, or there are no labels.
        """
        if self.labels is None:
            raise DataError(f"{self.source} has no labels", "open it with labelled=True")
        starts = self._starts(specs)
        for start in starts:
            yield self._feed(specs, start), np.asarray(self.labels[start : start + starts.step])

    def take(self, indices: Sequence[int]) -> Samples:
        """The samples at `indices`, in that order."""
        return dataclasses.replace(
            self,
            inputs={name: choose(rows, indices) for name, rows in self.inputs.items()},
            labels=None if self.labels is None else choose(self.labels, indices),
        )

    def first(self, count: int) -> Samples:
        """The first `count` samples, or all. A folder's come class by class: `spread` is fairer."""
        return self.take(range(min(count, len(self))))

    def spread(self, count: int) -> Samples:
        """`count` samples evenly spaced over all of them, or all."""
        total = len(self)
        wanted = min(count, total)
        return self.take([i * total // wanted for i in range(wanted)])

    def batch(self, specs: Sequence[TensorSpec]) -> int:
        """How many samples go into one feed."""
        return max(self._batch_of(s) for s in specs)

    def _starts(self, specs: Sequence[TensorSpec]) -> range:
        batch = self.batch(specs)
        if len(self) < batch:
            raise DataError(
                f"{self.source} has {len(self)} samples; the model takes {batch} at a time",
                "give more samples, or a smaller --batch",
            )
        return range(0, len(self) - batch + 1, batch)

    def _feed(self, specs: Sequence[TensorSpec], start: int) -> Feed:
        return {s.name: self._part(s, start) for s in specs}

    def _part(self, spec: TensorSpec, start: int) -> NDArray[Any]:
        rows = self.inputs[spec.name]
        whole = len(rows.shape) == len(spec.shape) + 1
        part = np.asarray(rows[start] if whole else rows[start : start + self._batch_of(spec)])
        sizes = zip(spec.shape, part.shape, strict=True)
        if not all(isinstance(d, str) or d == n for d, n in sizes):
            raise DataError(
                f"{self.source}: samples of {spec.name} are {list(part.shape)}, "
                f"the model takes {list(spec.shape)}",
                "give samples of that size, or change --shape",
            )
        return part

    def _batch_of(self, spec: TensorSpec) -> int:
        if len(self.inputs[spec.name].shape) == len(spec.shape) + 1 or not spec.shape:
            return 1
        return spec.shape[0] if isinstance(spec.shape[0], int) else 1


def require_names(names: object, specs: Sequence[TensorSpec], source: str) -> None:
    """Raises DataError: `names` are not those of the model's inputs."""
    there, wanted = set(names), {s.name for s in specs}  # type: ignore[call-overload]
    if there != wanted:
        raise DataError(
            f"{source} has {_listed(there)}; the model's inputs are {_listed(wanted)}",
            "save one array per input under its name: np.savez(file, **{name: array})",
        )


def _add(digest: Any, name: str, rows: Rows) -> None:
    digest.update(f"{name}\0{rows.dtype.str}\0{tuple(rows.shape)}\0".encode())
    if isinstance(rows, MadeRows):
        digest.update(rows.digest().encode())
        return
    for _, block in blocks(rows):
        digest.update(np.ascontiguousarray(block).tobytes())


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(repr(n) for n in names)) or "nothing"
