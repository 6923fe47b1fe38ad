"""`edgepack runtime-config`: what ONNX Runtime's own parser reads back is what the models need, and nothing of this machine."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnxruntime.tools.reduced_build_config_parser import parse_config

import edgepack
from edgepack import ortfile
from edgepack.errors import BundleError, OutputError, UsageError
from edgepack.reduced_runtime import CONFIG, SUMMARY
from edgepack.weights import graphs
from tests.bundle_samples import conv_model, multi_model, seal
from tests.cli.conftest import Command, command  # noqa: F401


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by name: two precisions, two models, and three targets of two languages."""
    folder = tmp_path_factory.mktemp("bundles")
    onnx.save(conv_model(), folder / "conv.onnx")
    onnx.save(multi_model(), folder / "multi.onnx")
    built = {}
    for model, precision, targets in (
        ("conv", "int8", ["android", "jetson-orin", "web"]),
        ("conv", "fp16", ["ios"]),
        ("multi", "fp32", ["android"]),
    ):
        for result in edgepack.build(
            folder / f"{model}.onnx",
            targets=targets,
            precision=precision,
            output_dir=folder / precision,
            calibration="random",
        ):
            built[f"{model}-{result.target}"] = result.bundle
    return built


def required(folder: Path) -> set[tuple[str, str]]:
    """Domain and name of every operator, as ONNX Runtime's build reads them."""
    operators, types = parse_config(str(folder / CONFIG), True)
    assert types is not None
    assert types.get_cpp_entries()
    return {
        (domain, name)
        for domain, versions in operators.items()
        for names in versions.values()
        for name in names
    }


def used(bundle: Path) -> set[tuple[str, str]]:
    """Those in a bundle's model, read by edgepack's own reader."""
    (model,) = (bundle / "model").iterdir()
    nodes = [node for graph in graphs(ortfile.read(model)) for node in graph.node]
    return {(node.domain or "ai.onnx", node.op_type) for node in nodes}


def test_the_operators_of_all_models_are_there_and_no_others(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    given = [bundles["conv-android"], bundles["multi-android"], bundles["conv-ios"]]
    made = edgepack.runtime_config(given, tmp_path / "all")
    needed = set().union(*map(used, given))
    assert ("com.microsoft", "QLinearConv") in needed
    # Where a provider may leave a fused node to the CPU, what it was fused of is kept beside it.
    assert needed <= required(tmp_path / "all")
    edgepack.runtime_config(given[1:2], tmp_path / "one")
    assert required(tmp_path / "one") == used(given[1])
    assert made.operators >= len(needed)


def test_types_are_those_the_models_use(bundles: dict[str, Path], tmp_path: Path) -> None:
    edgepack.runtime_config([bundles["conv-android"]], tmp_path / "int8")
    text = (tmp_path / "int8" / CONFIG).read_text()
    assert 'QLinearConv{"inputs": {"0": ["int8_t"]}}' in text
    assert "uint8_t" not in text
    assert "int64" not in text


def test_any_order_gives_the_same_bytes_and_nothing_of_this_machine(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    given = [bundles["conv-android"], bundles["multi-android"], bundles["conv-ios"]]
    contents = []
    for k, order in enumerate(itertools.permutations(given)):
        moved = [Path(shutil.copytree(b, tmp_path / f"{k}" / f"{n}")) for n, b in enumerate(order)]
        made = edgepack.runtime_config(moved, tmp_path / f"out-{k}")
        contents.append({p.name: p.read_bytes() for p in sorted(made.folder.iterdir())})
    assert all(content == contents[0] for content in contents)
    assert not [name for name, text in contents[0].items() if str(tmp_path.parent).encode() in text]
    assert b"#" not in contents[0][CONFIG]


def test_settings_follow_the_providers_and_the_scripts_the_tag(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    made = edgepack.runtime_config([bundles["conv-android"], bundles["conv-ios"]], tmp_path / "out")
    android = json.loads((made.folder / "android_build_settings.json").read_text())
    assert "--use_xnnpack" in android["build_params"]
    assert "--use_nnapi" not in android["build_params"]
    ios = json.loads((made.folder / "ios_build_settings.json").read_text())
    assert "--use_coreml" in ios["build_params"]["base"]
    assert "--use_xnnpack" not in ios["build_params"]["base"]
    version = edgepack.load_manifest(bundles["conv-android"]).runtime.version
    assert made.tag == f"v{version}"
    for name in ("build_android.sh", "build_ios.sh"):
        script = (made.folder / name).read_text()
        assert f"--branch v{version} " in script
        assert CONFIG in script
        for check in (["sh", "-n"], ["shellcheck"]):
            if shutil.which(check[0]):
                done = subprocess.run([*check, made.folder / name], capture_output=True, text=True)
                assert (done.returncode, done.stdout) == (0, "")
    summary = json.loads((made.folder / SUMMARY).read_text())
    assert summary["onnxruntime"] == made.tag
    assert [m["bundle"] for m in summary["models"]] == ["conv-android", "conv-ios"]
    assert set(summary["files"]) == {p.name for p in made.folder.iterdir()} - {SUMMARY}


def test_one_language_gets_its_own_files_alone(bundles: dict[str, Path], tmp_path: Path) -> None:
    made = edgepack.runtime_config([bundles["conv-ios"]], tmp_path / "out")
    assert made.files == ("build_ios.sh", "ios_build_settings.json", CONFIG, SUMMARY)


Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def spoilt(bundles: dict[str, Path], tmp_path: Path) -> Callable[[Change], Path]:
    def make(change: Change) -> Path:
        bundle = Path(shutil.copytree(bundles["conv-android"], tmp_path / "spoilt"))
        manifest = json.loads((bundle / "manifest.json").read_bytes())
        change(manifest)
        seal(bundle, manifest)
        return bundle

    return make


def test_what_cannot_be_merged_is_an_error_that_names_it(
    bundles: dict[str, Path], tmp_path: Path, spoilt: Callable[[Change], Path]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"model/conv.onnx is an onnx model"):
        edgepack.runtime_config([bundles["conv-jetson-orin"]], out)
    with pytest.raises(UsageError, match=r"several versions .*android 1\.29\.0, .*web 1\.30\.0"):
        edgepack.runtime_config([bundles["conv-android"], bundles["conv-web"]], out)
    with pytest.raises(UsageError, match="onnxruntime-web has no custom build here"):
        edgepack.runtime_config([bundles["conv-web"]], out)
    with pytest.raises(UsageError, match="no bundle was given"):
        edgepack.runtime_config([], out)
    provider = {"name": "QnnExecutionProvider", "options": {}}
    bundle = spoilt(lambda m: m["runtime"]["providers"].insert(0, provider))
    with pytest.raises(UsageError, match="wants QnnExecutionProvider"):
        edgepack.runtime_config([bundle], out)
    assert not out.exists()


def test_a_damaged_bundle_is_refused(
    bundles: dict[str, Path], tmp_path: Path, spoilt: Callable[[Change], Path]
) -> None:
    bundle = spoilt(lambda m: None)
    (model,) = (bundle / "model").iterdir()
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match="was changed"):
        edgepack.runtime_config([bundle], tmp_path / "out")


def test_a_bundle_puts_no_words_of_its_own_into_a_script(
    tmp_path: Path, spoilt: Callable[[Change], Path]
) -> None:
    bundle = spoilt(lambda m: m["runtime"].update(package="x\nrm -rf ~\n$(id)"))
    made = edgepack.runtime_config([bundle], tmp_path / "out")
    assert "rm -rf" not in (made.folder / "build_android.sh").read_text()


def test_the_folder_is_replaced_only_when_asked(bundles: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    edgepack.runtime_config([bundles["conv-android"]], out)
    with pytest.raises(OutputError, match="already there"):
        edgepack.runtime_config([bundles["conv-ios"]], out)
    edgepack.runtime_config([bundles["conv-ios"]], out, overwrite=True)
    assert not (out / "build_android.sh").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_command_says_what_it_wrote(
    command: Command,  # noqa: F811
    bundles: dict[str, Path],
    tmp_path: Path,
) -> None:
    done = command("runtime-config", bundles["conv-android"], "-o", tmp_path / "a")
    assert done.code == 0, done.err
    assert "operators of conv-android" in done.out
    assert str(tmp_path / "a" / "build_android.sh") in done.out
    data = command("runtime-config", bundles["conv-android"], "-o", tmp_path / "b", "--json").json
    assert (data["tag"], data["folder"]) == ("v1.29.0", str(tmp_path / "b"))
    refused = command("runtime-config", bundles["conv-jetson-orin"], "-o", tmp_path / "c")
    assert refused.code == 2
    assert "fix:   give bundles whose model is .ort" in refused.err
