"""An onnxruntime on a board with TensorRT, as far as the loader can see it. Not TensorRT: the numbers come from the real CPU.

An engine is a file in `trt_engine_cache_path`: one that is there is loaded, else it is built. That is how the real provider
behaves (onnxruntime, docs/execution-providers/TensorRT-ExecutionProvider.md, "trt_engine_cache_path").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

TENSORRT, CUDA, CPU = (f"{n}ExecutionProvider" for n in ("Tensorrt", "CUDA", "CPU"))


class FakeOnnxRuntime:
    """What `import onnxruntime` gives. `starts`: the providers whose libraries and device are there.

    `takes_nodes`: those that get nodes. `fails_on`: creating a session led by this one raises. `builds`: bytes of the engine
    being built; None if building dies half way. `prints`: what goes to stdout, as older versions do.
    `events` notes what happened to engines.
    """

    SessionOptions = onnxruntime.SessionOptions
    GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel

    def __init__(self) -> None:
        self.__version__ = "1.23.0"
        self.compiled_in = [TENSORRT, CUDA, CPU]
        self.starts = [TENSORRT, CUDA, CPU]
        self.takes_nodes: list[str] | None = [TENSORRT]
        self.fails_on = ""
        self.builds: bytes | None = b"engine"
        self.prints = ""
        self.events: list[str] = []
        self.asked: list[list[str]] = []

    def disable_telemetry_events(self) -> None:
        pass

    def get_available_providers(self) -> list[str]:
        return self.compiled_in

    def InferenceSession(
        self, model: bytes, options: Any, *, providers: list[Any], enable_fallback: int
    ) -> FakeSession:
        assert enable_fallback == 0
        print(self.prints)
        names = [name for name, _ in providers]
        self.asked.append(names)
        if names[0] == self.fails_on:
            raise RuntimeError("Please install TensorRT libraries")
        started = [name for name in names if name in self.starts]
        if TENSORRT in started:
            self._engine(dict(providers)[TENSORRT])
        return FakeSession(model, [*started, *({CPU} - set(started))], self.takes_nodes)

    def _engine(self, options: dict[str, str]) -> None:
        assert "${cache}" not in str(options)
        if options.get("trt_engine_cache_enable") != "1":
            return
        engine = Path(options["trt_engine_cache_path"]) / "TensorrtExecutionProvider_graph_0.engine"
        if engine.exists():
            self.events.append(f"loaded {engine.read_bytes().decode()}")
        elif self.builds is None:
            engine.write_bytes(b"half an eng")
            raise RuntimeError("out of memory")
        else:
            engine.write_bytes(self.builds)
            self.events.append(f"built {self.builds.decode()}")


class FakeSession:
    """A session of the real CPU provider that claims others."""

    def __init__(self, model: bytes, started: list[str], takes_nodes: list[str] | None) -> None:
        self._real = onnxruntime.InferenceSession(model, providers=[CPU])
        self._started = started
        if takes_nodes is not None:
            self.get_provider_graph_assignment_info = lambda: [
                FakePart(name) for name in takes_nodes if name in started
            ]
        self._falls_back = True

    def disable_fallback(self) -> None:
        self._falls_back = False

    def run(self, *arguments: Any) -> list[Any]:
        assert not self._falls_back, "a failing run would go on with other providers in silence"
        return self._real.run(*arguments)

    def get_providers(self) -> list[str]:
        return self._started


class FakePart:
    """Two nodes of a provider."""

    def __init__(self, name: str) -> None:
        self.ep_name = name

    def get_nodes(self) -> list[str]:
        return ["Conv", "Relu"]
