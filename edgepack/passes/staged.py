"""A model run in stages, for several samples side by side: what a stage ends with may be changed before the next one takes it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgepack.errors import StepError
from edgepack.prove.engine import Tensors, create_session, run_session, session_options
from edgepack.topology import constants, taken

#: What all samples' tensors between two stages may take: 512 MiB. Beyond it, as many samples are let go as it takes.
BUDGET_BYTES = 1 << 29


class StagedRun:
    """Every node runs once for each sample, however many stages there are; tensors are held as long as a later stage takes them.

    Attributes:
        samples: places, among those given, of the samples that are still run.
    """

    def __init__(
        self, model: onnx.ModelProto, feeds: Sequence[Tensors], *, budget_bytes: int = BUDGET_BYTES
    ) -> None:
        """Args: model: in memory, weights too, its nodes in an order in which they can run."""
        self.samples = list(range(len(feeds)))
        self._model = model
        self._budget_bytes = budget_bytes
        self._constants = {i.name: i for i in model.graph.initializer}
        self._known: list[dict[str, NDArray[Any]]] = [dict(feed) for feed in feeds]
        known = constants(model.graph.node, self._constants)
        # Each stage makes what is constant anew, where it takes it.
        self._fixed = [n for n in model.graph.node if not known.isdisjoint(n.output)]
        self._moving = [n for n in model.graph.node if known.isdisjoint(n.output)]

    def stages(self, ends: Collection[str]) -> Iterator[tuple[str, list[NDArray[Any]]]]:
        """Runs up to each node in `ends` (names) and gives its name and, for each sample, its first output.

        Change the arrays in place: they are what later stages take.

        Raises:
            StepError: onnxruntime cannot run a stage.
        """
        last = max((i for i, n in enumerate(self._moving) if n.name in ends), default=-1)
        nodes = self._moving[: last + 1]
        last_use = {name: i for i, node in enumerate(nodes) for name in taken(node)}
        begin = 0
        for end, node in enumerate(nodes):
            if node.name not in ends:
                continue
            stage = nodes[begin : end + 1]
            made = {name for n in stage for name in n.output}
            later = sorted(n for n in made if last_use.get(n, -1) > end)
            self._run(stage, list(dict.fromkeys([node.output[0], *later])))
            yield node.name, [known[node.output[0]] for known in self._known]
            for known in self._known:
                for name in [n for n in known if last_use.get(n, -1) <= end]:
                    del known[name]
            begin = end + 1

    def _run(self, stage: Sequence[onnx.NodeProto], wanted: Sequence[str]) -> None:
        needed = {n for node in stage for n in taken(node)}
        given = sorted(needed & self._known[0].keys())
        session = self._open(stage, given, wanted)
        for place, known in enumerate(self._known):
            # What onnxruntime gives is its own: only a copy can be written to.
            made = run_session(session, stage[-1].name, {n: known[n] for n in given})
            known |= {name: np.array(value) for name, value in made.items()}
            if place == 0:
                self._let_go(sum(value.nbytes for value in known.values()))

    def _let_go(self, sample_bytes: int) -> None:
        """Keep as many samples as fit, evenly spread, the first among them."""
        fit = max(1, self._budget_bytes // max(1, sample_bytes))
        if fit < len(self._known):
            chosen = [i * len(self._known) // fit for i in range(fit)]
            self._known[:] = [self._known[i] for i in chosen]
            self.samples = [self.samples[i] for i in chosen]

    def _open(
        self, stage: Sequence[onnx.NodeProto], given: Sequence[str], wanted: Sequence[str]
    ) -> Any:
        part = self._part(stage, given, wanted).SerializeToString()
        session = create_session(part, session_options(), f"the part that ends in {stage[-1].name}")
        others = [o for o in session.get_outputs() if not o.type.startswith("tensor(")]
        if others:
            raise StepError(
                f"{others[0].name} is {others[0].type}, and only tensors go from stage to stage",
                "run the model as a whole",
            )
        return session

    def _part(
        self, stage: Sequence[onnx.NodeProto], given: Sequence[str], wanted: Sequence[str]
    ) -> onnx.ModelProto:
        needed = {n for node in stage for n in taken(node)}
        fixed = []
        for node in reversed(self._fixed):
            if needed & set(node.output):
                fixed.append(node)
                needed |= set(taken(node))
        part = onnx.ModelProto(ir_version=self._model.ir_version)
        part.opset_import.extend(self._model.opset_import)
        part.functions.extend(self._model.functions)
        part.graph.name = "stage"
        part.graph.node.extend([*reversed(fixed), *stage])
        part.graph.initializer.extend(t for n, t in self._constants.items() if n in needed)
        for name in given:
            kind = helper.np_dtype_to_tensor_dtype(self._known[0][name].dtype)
            part.graph.input.append(helper.make_tensor_value_info(name, kind, None))
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        return part
