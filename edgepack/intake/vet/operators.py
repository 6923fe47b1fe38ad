"""TensorFlow's operators that do more than compute: which, and why a model that has one is refused.

TensorFlow calls its models programs that "may read and write files, send and receive data over the network, and even spawn additional
processes" (tensorflow/SECURITY.md). This list was drawn from the operator registry of TensorFlow 2.21: every operator with an argument that
is a file, a folder or an address, every one that calls Python or loads code, and those that carry a serialized graph, in which the
others could hide. tests/intake/test_hostile.py holds it against the registry of the TensorFlow at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Operators by name, and what they do."""

    names: re.Pattern[str]
    does: str


def _rule(names: str, does: str) -> Rule:
    return Rule(names=re.compile(names), does=does)


REFUSED = (
    _rule(r"(Eager)?PyFunc(Stateless)?|NumpyFunction", "calls Python"),
    _rule(r"ReadFile|WholeFileReader(V2)?|MatchingFiles|(Experimental)?MatchingFilesDataset", "reads files"),
    _rule(r"WriteFile|DumpTensor|CalibrationStatisticsSaver", "writes files"),
    _rule(r"(TextLine|FixedLengthRecord|TFRecord|LMDB|Identity)Reader(V2)?|RecordInput|Skipgram|GenerateVocabRemapping", "reads files"),
    _rule(r"(Experimental)?(TextLine|FixedLengthRecord|TFRecord|CSV|LMDB|Sql)Dataset(V2)?", "reads files"),
    _rule(r"(Load|Save)Dataset(V2)?|(Experimental)?DatasetToTFRecord|CacheDataset(V2)?", "reads or writes files"),
    _rule(r"(Distributed)?Save|SaveSlices|Restore|RestoreSlice|LoadAndRemapMatrix", "reads or writes files"),
    _rule(r".*Snapshot.*(Dataset|Reader).*|ListSnapshotChunksDataset", "reads or writes files"),
    _rule(r"Create(SummaryFile|SummaryDb)Writer|Write(Raw|\w+)?(Proto)?Summary|SummaryWriter", "writes files"),
    _rule(r"DTensorRestoreV2|StoreMinibatchStatisticsInFdo|GetMinibatch\w+|DebugIdentity(V\d)?|DebugNumericSummary|DebugNanCount", "reads or writes files"),
    _rule(r"FileSystemSetConfiguration", "sets up file systems"),
    _rule(r"Rpc\w+|DeleteRpcFutureResource|DataServiceDataset(V\d)?|RegisterDataset(V2)?", "uses the network"),
    _rule(r"BigQuery\w*|GenerateBigQueryReaderPartitions|\w*Kafka\w*|CloudBigtable\w*", "uses the network"),
    _rule(r"_?(Host)?(Send|Recv)|_Xla(Send|Recv)\w*|Collective(Initialize|AssignGroup)\w*", "waits for other processes"),
    _rule(r"RemoteCall|RemoteFusedGraphExecute|DatasetFromGraph", "runs a graph of its own"),
    _rule(r"XlaCustomCall(V2)?|_?XlaHostCompute\w*|TRTEngineOp|MlirPassthroughOp", "runs compiled code"),
    _rule(r"Abort", "ends the process"),
)  # fmt: skip
#: A saver's own operators: legal where only saving or restoring reaches them.
SAVING = re.compile(r"SaveV2|MergeV2Checkpoints")
RESTORING = re.compile(r"RestoreV2")
#: They read the file that their second input names: an asset, in a good model.
TABLES = re.compile(r"InitializeTableFromTextFile(V2)?")
#: `file://…` makes a printer append to a file.
_STREAMS = {"", "stdout", "stderr", "log(info)", "log(warning)", "log(error)"}


#: Operators that a text in them makes act.
_BY_TEXT = ("PrintV2", "FixedUnigramCandidateSampler")


def may_act(op: str) -> bool:
    """Whether any rule is about the operator."""
    patterns = (*(r.names for r in REFUSED), SAVING, RESTORING, TABLES)
    return op in _BY_TEXT or any(p.fullmatch(op) for p in patterns)


def refusal(op: str, attributes: Mapping[str, Any]) -> str | None:
    """What the operator does that a model must not; None: it computes.

    Args:
        attributes: a NodeDef's `attr`, of which texts that name files count.
    """
    for rule in REFUSED:
        if rule.names.fullmatch(op):
            return rule.does
    if op == "PrintV2" and (stream := _text(attributes, "output_stream")) not in _STREAMS:
        return f"prints to {stream[:200]!r}"
    if op == "FixedUnigramCandidateSampler" and (file := _text(attributes, "vocab_file")):
        return f"reads the file {file[:200]!r}"
    return None


def _text(attributes: Mapping[str, Any], name: str) -> str:
    return str(attributes[name].s.decode("utf-8", "replace")) if name in attributes else ""
