"""The child process in which a vendor's parser runs: its native code, its crash and its memory stay here.

Called as `python -m edgepack.legality.opinion_child MODULE MODEL CAPABILITY ANSWER`; writes ANSWER as JSON.

Source: NVIDIA TensorRT documentation, Python API (Builder, OnnxParser, IParserError, set_compute_capability).
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main(module: str, model: str, capability: str, answer: str) -> None:
    """Ask, and write what it said."""
    try:
        vendor = importlib.import_module(module)
    except ImportError as error:
        said: dict[str, Any] = {"missing": str(error)}
    else:
        said = _ask(vendor, model, capability)
    Path(answer).write_text(json.dumps(said), encoding="utf-8")


def _ask(vendor: Any, model: str, capability: str) -> dict[str, Any]:
    logger = vendor.Logger(vendor.Logger.INTERNAL_ERROR)
    builder = vendor.Builder(logger)
    network = builder.create_network(0)
    parser = vendor.OnnxParser(network, logger)
    parsed = bool(parser.parse_from_file(model))
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    return {
        "version": vendor.__version__,
        "parsed": parsed,
        "compiled_for": capability
        if parsed and _compiles(vendor, builder, network, capability)
        else "",
        "rejections": [
            {"node": e.node_name(), "operator": e.node_operator(), "why": e.desc()} for e in errors
        ],
    }


def _compiles(vendor: Any, builder: Any, network: Any, capability: str) -> bool:
    """Whether an engine for a GPU of this compute capability can be built, ahead of time and without one."""
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(vendor.ComputeCapability, capability), 0)
    return builder.build_serialized_network(network, config) is not None


if __name__ == "__main__":
    main(*sys.argv[1:])
