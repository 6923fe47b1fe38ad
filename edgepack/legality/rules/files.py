"""What a file may be: its operator set's version, its format's version, its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from edgepack.legality.finding import Finding, Severity
from edgepack.legality.graph import GraphView
from edgepack.legality.rules.rule import Rule
from edgepack.opsets import format_of


@dataclass(frozen=True, kw_only=True)
class OpsetRange(Rule):
    """A version of ONNX's operator set that the device's runtime or parser does not read, or a file format newer than that version's.

    Attributes:
        minimum, maximum: the versions that it reads.
    """

    name: ClassVar[str] = "opset"

    minimum: int = 1
    maximum: int | None = None

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        version, ir = graph.opset, graph.model.ir_version
        if version and not self.minimum <= version <= (self.maximum or version):
            yield self.found(
                f"the model has operator set {version}; the device reads {self.minimum} to {self.maximum or 'any'}",
                "put the step `opset` into the profile's steps, or export the model with another operator set",
                value=version,
            )
        if self.maximum is not None and ir > max(4, format_of(self.maximum)):
            yield self.found(
                f"the file has ONNX format version (IR) {ir}; operator set {self.maximum} came with {format_of(self.maximum)}",
                "put the step `opset` into the profile's steps, or export the model with an older onnx",
                value=ir,
            )


@dataclass(frozen=True, kw_only=True)
class FileSize(Rule):
    """Files larger than some hosts serve, or than the runtime can open.

    Attributes:
        hosts: bytes a file may have, by host; more is a warning.
        maximum_bytes: more is found with the rule's severity.
    """

    name: ClassVar[str] = "file_size"

    hosts: Mapping[str, int] = field(default_factory=dict)
    maximum_bytes: int | None = None

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for name, size in graph.files:
            if self.maximum_bytes is not None and size > self.maximum_bytes:
                yield self._too_large(
                    name, size, "the device's runtime", self.maximum_bytes, self.severity
                )
            for host, limit in self.hosts.items():
                if size > limit:
                    yield self._too_large(name, size, host, limit, "warning")

    def _too_large(self, name: str, size: int, who: str, limit: int, severity: Severity) -> Finding:
        return Finding(
            rule=self.name,
            severity=severity,
            cause=f"{name} has {size:,} bytes; {who} takes files of at most {limit:,}",
            fix="use a smaller precision (--precision fp16-weights, int8-weights or int8), or a host without that limit",
            tensor=name,
            value=str(size),
            source=self.source,
        )
