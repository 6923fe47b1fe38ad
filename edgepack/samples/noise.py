"""Noise in place of data: only where it was asked for, and marked as what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.errors import UsageError
from edgepack.samples.dataset import Samples
from edgepack.samples.rows import Rows

#: The word that asks for it in place of a path, and the source it is recorded under.
RANDOM = "random"
#: How many samples, where nobody said.
COUNT = 100
#: What a free dimension other than the batch is filled with.
FREE_SIZE = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseRows:
    """Seeded noise: row i is the same whenever it is read, and whichever others are."""

    indices: Sequence[int]
    tail: tuple[int, ...]
    dtype: np.dtype[Any]
    seed: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.tail)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        if isinstance(index, slice):
            block = np.empty((len(self.indices[index]), *self.tail), self.dtype)
            for place, i in enumerate(self.indices[index]):
                block[place] = self._row(i)
            return block
        return self._row(self.indices[index])

    def digest(self) -> str:
        """Of what the noise is made from."""
        made_from = f"{self.seed}\0{self.tail}\0{self.dtype.str}\0{list(self.indices)}"
        return hashlib.sha256(made_from.encode()).hexdigest()

    def chosen(self, indices: Sequence[int]) -> Rows:
        return replace(self, indices=tuple(self.indices[i] for i in indices))

    def _row(self, index: int) -> NDArray[Any]:
        rng = np.random.default_rng((*self.seed, index))
        if self.dtype.kind == "f":
            return np.asarray(rng.random(self.tail)).astype(self.dtype)
        top = 256 if self.dtype == np.uint8 else 2
        return np.asarray(rng.integers(0, top, self.tail)).astype(self.dtype)


def random_samples(specs: Sequence[TensorSpec], count: int = COUNT, seed: int = 0) -> Samples:
    """`count` feeds of noise: floats uniform in [0, 1), uint8 0–255, other integers 0 or 1 (legal indexes into any vocabulary of two).

    A free dimension gets FREE_SIZE. `source` is "random" and `random` is true: a range taken from noise is a guess.

    Raises:
        UsageError: fewer than one.
    """
    if count < 1:
        raise UsageError(f"{count} random samples", "ask for at least one")
    batches = {s.shape[0] for s in specs if s.shape and isinstance(s.shape[0], int)}
    # Inputs that fix different sizes get whole feeds, [N, *shape].
    whole = len(batches) > 1
    batch = 1 if whole else max(batches, default=1)
    rows: dict[str, Rows] = {}
    for k, spec in enumerate(specs):
        tail = tuple(d if isinstance(d, int) else FREE_SIZE for d in spec.shape[1:])
        if whole and spec.shape:
            tail = (spec.shape[0] if isinstance(spec.shape[0], int) else 1, *tail)
        # An input without a batch has one row for each feed, as the others have.
        rows[spec.name] = NoiseRows(
            indices=range(count * batch), tail=tail, dtype=np.dtype(spec.dtype), seed=(seed, k)
        )
    return Samples(inputs=rows, source=RANDOM, random=True)
