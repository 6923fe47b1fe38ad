"""The JavaScript loader in Node: the contract of runtime/README.md."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from tests.device.javascript.browser import serve
from tests.device.javascript.conftest import run_self_test

SAMPLES = ("conv-onnx", "conv-ort", "multi-onnx", "multi-ort")


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_sample_passes_its_own_self_test(copy, sample):
    bundle = copy(sample)
    code, outcome = run_self_test(bundle.root)
    assert (code, outcome["passed"]) == (0, True), outcome
    expected = [
        (case["name"], e["name"], e["from"], e["atol"], e["rtol"])
        for case in bundle.manifest()["golden"]
        for e in case["expect"]
    ]
    keys = ("case", "output", "from", "atol", "rtol")
    assert [tuple(case[k] for k in keys) for case in outcome["cases"]] == expected
    assert max(case["max_abs"] for case in outcome["cases"]) < 1e-6


def test_report_tells_what_opened(conv, node):
    bundle = conv.providers(
        "XnnpackExecutionProvider", "WebGpuExecutionProvider", "CPUExecutionProvider"
    )
    outcome = node.self_test(bundle)
    model = next(f for f in conv.manifest()["files"] if f["role"] == "model")
    report = outcome["report"]
    assert report.pop("passed_over") == {
        "XnnpackExecutionProvider": "onnxruntime-web does not have it",
        "WebGpuExecutionProvider": "no available backend found. ERR: [webgpu] backend not found.",
    }
    assert report.pop("threads") >= 1
    assert report == {
        "provider": "CPUExecutionProvider",
        "proven": True,
        "runtime_version": "1.30.0",
        "model_sha256": model["sha256"],
        "precision": "fp32",
        "isolated": None,
    }


def test_answers_are_those_of_python(conv, node):
    x = np.random.default_rng(7).normal(size=(1, 8, 8, 1)).astype(np.float32)
    model = onnxruntime.InferenceSession(conv.root / "model/conv-ort.ort")
    (expected,) = model.run(None, {"image": x})
    y = node.value(
        conv.root,
        f"""const image = {{ data: Float32Array.from({x.ravel().tolist()}), shape: [1, 8, 8, 1] }};
        const {{ probabilities }} = await (await session()).run({{ image }});
        return {{ ...probabilities, data: Array.from(probabilities.data) }};""",
    )
    assert (y["shape"], y["dtype"]) == ([1, 10], "float32")
    np.testing.assert_allclose(y["data"], expected[0], atol=1e-5, rtol=0)


def test_overlapping_runs_give_each_caller_its_answer(conv, node):
    same = node.value(
        conv.root,
        """const s = await session();
        const feeds = Array.from({ length: 20 }, (_, k) => ({ image: { data: new Float32Array(64).fill(k), shape: [1, 8, 8, 1] } }));
        const one = async (feed) => String((await s.run(feed)).probabilities.data);
        const alone = [];
        for (const feed of feeds) alone.push(await one(feed));
        return new Set(alone).size === 20 && String(await Promise.all(feeds.map(one))) === String(alone);""",
    )
    assert same


MULTI = """
const feeds = (batch) => ({
  f16: { data: new ARRAYS.float16(batch * 3), shape: [batch, 3] },
  f32: { data: Float32Array.from({ length: batch * 3 }, (_, i) => i), shape: [batch, 3] },
  i8: { data: new Int8Array(batch * 3).fill(-8), shape: [batch, 3] },
  u8: { data: new Uint8Array(batch * 3).fill(200), shape: [batch, 3] },
  i32: { data: new Int32Array(batch * 3).fill(-70000), shape: [batch, 3] },
  i64: { data: new BigInt64Array(batch * 3).fill(-(2n ** 62n)), shape: [batch, 3] },
  b: { data: new Uint8Array(batch * 3).fill(1), shape: [batch, 3] },
  'scalar/odd name:0': { data: Float32Array.of(0.5), shape: [] },
});
const s = await session();
"""


def test_every_dtype_comes_back_in_its_own_array(multi, node):
    answer = node.value(
        multi.root,
        MULTI
        + """const y = await s.run(feeds(4));
        return Object.entries(y).map(([name, { data, shape, dtype }]) =>
          [name, data.constructor.name, String(data[3]), shape, dtype]);""",
    )
    half = node.value(multi.root, "return ARRAYS.float16.name")
    shape = [4, 3]
    assert sorted(answer) == [
        ["out_b", "Uint8Array", "1", shape, "bool"],
        ["out_f16", half, "0", shape, "float16"],
        ["out_f32", "Float32Array", "3", shape, "float32"],
        ["out_i32", "Int32Array", "-70000", shape, "int32"],
        ["out_i64", "BigInt64Array", str(-(2**62)), shape, "int64"],
        ["out_i8", "Int8Array", "-8", shape, "int8"],
        ["out_u8", "Uint8Array", "200", shape, "uint8"],
        ["sum", "Float32Array", "3.5", shape, "float32"],
    ]


def test_answers_are_inputs_too(multi, node):
    assert node.value(
        multi.root,
        MULTI
        + """const { sum } = await s.run(feeds(2));
        return Array.from((await s.run({ ...feeds(2), f32: sum })).sum.data);""",
    ) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ("delete x.b", "input-missing", "input 'b': expected bool [batch,3], got nothing"),
        ("x.b = undefined", "input-missing", "'b': expected bool [batch,3]"),
        ("x.b = null", "input-missing", "'b': expected bool [batch,3]"),
        ("x.c = x.b", "input-unknown", "not 'c'"),
        ("x.toString = x.b", "input-unknown", "not 'toString'"),
        ("x.c = x.b; delete x.b", "input-missing", "'b'"),
        ("x.b = x.b.data", "dtype-mismatch", "'b': expected bool [batch,3], got bool in a undefined"),
        ("x.i8.data = new Uint8Array(6)", "dtype-mismatch", "got int8 in a Uint8Array"),
        ("x.i8.data = [1, 2, 3, 4, 5, 6]", "dtype-mismatch", "got int8 in a Array"),
        ("x.u8.data = new Uint8ClampedArray(6)", "dtype-mismatch", "got uint8 in a Uint8ClampedArray"),
        ("x.b.dtype = 'uint8'", "dtype-mismatch", "got uint8 in a Uint8Array"),
        ("delete x.f32.shape", "shape-mismatch", "expected float32 [batch,3], got 6 values for [undefined]"),
        ("x.f32.shape = [6]", "shape-mismatch", "got 6 values for [6]"),
        ("x.f32.shape = [2, 4]", "shape-mismatch", "for [2,4]"),
        ("x.f32.shape = [-2, 3]", "shape-mismatch", "for [-2,3]"),
        ("x.f32.shape = [2.5, 3]", "shape-mismatch", "for [2.5,3]"),
        ("x.f32.shape = ['batch', 3]", "shape-mismatch", "for [batch,3]"),
        ("x.f32.data = new Float32Array(5)", "shape-mismatch", "got 5 values for [2,3]"),
        ("x.i8 = feeds(3).i8", "shape-mismatch", "'i8': expected int8 [batch,3], got 9 values for [3,3]"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_refused(multi, node, change, kind, message):
    got = node.error(multi.root, f"{MULTI} const x = feeds(2); {change}; await s.run(x);")
    assert got[0] == kind
    assert message in got[1]


def _set(*path_and_value):
    *path, key, value = path_and_value

    def change(manifest):
        for step in path:
            manifest = manifest[step]
        manifest[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (_set("schema", 2), "schema-unsupported", "schema 2, critical []"),
        (_set("critical", ["signature"]), "schema-unsupported", "schema 1, critical [signature]"),
        (_set("schema", "1"), "manifest-invalid", r'$.schema is "1", expected ^\d{1,15}$'),
        (_set("critical", None), "manifest-invalid", "$.critical is null, expected a list"),
        (lambda m: m.pop("inputs"), "manifest-invalid", "$.inputs is missing, expected a list"),
        (_set("inputs", 0, "dtype", "float8"), "manifest-invalid", 'inputs[0].dtype is "float8"'),
        (_set("inputs", 0, "shape", 1, -8), "manifest-invalid", "inputs[0].shape[1] is -8"),
        (_set("model", "path", "model/other.ort"), "manifest-invalid", "lists no model/other.ort of role model"),
        (_set("files", 0, "path", "../secret"), "manifest-invalid", 'files[0].path is "../secret"'),
        (_set("files", 0, "path", "/etc/hosts"), "manifest-invalid", "files[0].path"),
        (_set("files", 0, "path", "a\\b"), "manifest-invalid", "files[0].path"),
        (_set("files", 0, "path", "a//b"), "manifest-invalid", "files[0].path"),
        (_set("files", 0, "path", "a/."), "manifest-invalid", "files[0].path"),
        (_set("files", 0, "path", "a\n"), "manifest-invalid", "files[0].path"),
        (_set("files", 0, "path", ""), "manifest-invalid", "files[0].path"),
        (_set("files", 0, "size", 2**32), "manifest-invalid", "files[0].size is 4294967296"),
        (_set("files", 0, "path", "a b"), "manifest-invalid", "files[0].path"),
        (_set("files", 0, "path", "https:x"), "manifest-invalid", "files[0].path"),
        (_set("files", 0, "sha256", 10**63), "manifest-invalid", "files[0].sha256"),
        (_set("runtime", "min_version", 1.3), "manifest-invalid", "runtime.min_version is 1.3"),
        (_set("runtime", "session", "config", {"a": 1}), "manifest-invalid", "session.config"),
        (_set("runtime", "session", "graph_optimization_level", 99), "manifest-invalid", "level is 99"),
        (_set("golden", 0, "inputs", 0, "shape", [1, 8, 8, 2]), "manifest-invalid", "input-0.bin does not fill float32 [1,8,8,2]"),
        (_set("golden", 0, "inputs", 0, "path", "../a"), "manifest-invalid", "golden[0].inputs[0].path"),
        (_set("golden", 0, "expect", 0, "path", "golden/none"), "manifest-invalid", "lists no golden/none"),
        (_set("golden", 0, "expect", 0, "shape", 0, "batch"), "manifest-invalid", "expect[0].shape[0]"),
        (_set("golden", 0, "expect", 0, "atol", -1), "manifest-invalid", "atol is -1"),
    ],
)  # fmt: skip
def test_hostile_manifests_are_refused(conv, node, change, kind, message):
    got = node.error(conv.change(change), "await (await session()).selfTest()")
    assert got[0] == kind
    assert message in got[1]


def test_manifest_that_is_not_json_is_quoted(conv, node):
    (conv.root / "manifest.json").write_text("<!doctype html><title>Not found")
    kind, message = node.error(conv.root, "await open()")
    assert kind == "manifest-invalid"
    assert '"<!doctype "... is not valid JSON' in message


def test_unknown_fields_are_ignored(conv, node):
    bundle = conv.change(_set("future", {"a": 1}))
    assert node.self_test(bundle)["passed"]


def test_flipped_byte_in_the_model_is_refused(conv, node):
    model = conv.root / "model" / "conv-ort.ort"
    data = bytearray(model.read_bytes())
    data[1000] ^= 1
    model.write_bytes(data)
    kind, message = node.error(conv.root, "await open()")
    assert (kind, message.startswith("model/conv-ort.ort has 24840 bytes, SHA-256 ")) == (
        "file-corrupt",
        True,
    )


@pytest.mark.parametrize(
    ("change", "message"), [(b"x", "more than the 24840 bytes"), (None, "has 24839 bytes")]
)
def test_model_of_another_size_is_refused(conv, node, change, message):
    model = conv.root / "model" / "conv-ort.ort"
    data = model.read_bytes()
    model.write_bytes(data + change if change else data[:-1])
    kind, got = node.error(conv.root, "await open()")
    assert kind == "file-corrupt"
    assert message in got


@pytest.mark.parametrize(
    ("file", "kind"),
    [("manifest.json", "bundle-not-found"), ("model/conv-ort.ort", "file-missing")],
)
def test_missing_files_have_kinds_of_their_own(conv, node, file, kind):
    (conv.root / file).unlink()
    got = node.error(conv.root, "await open()")
    assert got[0] == kind
    assert file in got[1]


def test_golden_files_are_checked_when_they_are_read(conv):
    (conv.root / "golden/1/source-0.bin").write_bytes(bytes(40))
    code, outcome = run_self_test(conv.root)
    assert (code, outcome["error"]["kind"]) == (2, "file-corrupt")
    assert "golden/1/source-0.bin" in outcome["error"]["message"]


def test_self_test_fails_where_an_expectation_is_missed(conv):
    data = bytearray((conv.root / "golden/1/shipped-0.bin").read_bytes())
    data[:4] = np.float32(7).tobytes()
    code, outcome = run_self_test(conv.replace("golden/1/shipped-0.bin", bytes(data)))
    assert (code, outcome["passed"]) == (1, False)
    missed = [c for c in outcome["cases"] if not c["passed"]]
    assert [(c["case"], c["from"]) for c in missed] == [("1", "shipped")]
    assert 6 < missed[0]["max_abs"] < 7


@pytest.mark.parametrize("expected", [np.nan, np.inf])
def test_distance_that_is_not_finite_is_a_miss_and_null(conv, node, expected):
    data = np.full(10, expected, np.float32).tobytes()
    outcome = node.self_test(conv.replace("golden/0/shipped-0.bin", data))
    assert not outcome["passed"]
    assert (outcome["cases"][0]["passed"], outcome["cases"][0]["max_abs"]) == (False, None)


def test_expectation_of_another_shape_is_a_miss(conv, node):
    outcome = node.self_test(conv.change(_set("golden", 0, "expect", 0, "shape", [10])))
    assert not outcome["passed"]
    assert (outcome["cases"][0]["passed"], outcome["cases"][0]["max_abs"]) == (False, None)


def test_without_golden_cases_nothing_has_passed(conv, node):
    outcome = node.self_test(conv.change(_set("golden", [])))
    assert (outcome["passed"], outcome["cases"]) == (False, [])


HALVES = np.array([np.nan, np.inf, -np.inf, 2**-24, -65504, 1.5], np.float16)


@pytest.mark.parametrize(
    ("index", "other", "distance"), [(3, 2**-23, 2**-24), (4, -32768, 32736), (5, 3.0, 1.5)]
)
def test_halves_compare_as_numbers_where_the_engine_has_no_float16array(
    multi, fresh_node, index, other, distance
):
    loader = multi.root / "loader" / "edgepack.mjs"
    loader.write_text("globalThis.Float16Array = undefined;" + loader.read_text())
    (golden, *_) = multi.manifest()["golden"]
    shipped, source = (e["path"] for e in golden["expect"] if e["name"] == "out_f16")
    multi.replace(golden["inputs"][0]["path"], HALVES.tobytes())
    multi.replace(shipped, HALVES.tobytes())
    off = HALVES.copy()
    off[index] = other
    multi.replace(source, off.tobytes())
    equal, missed = fresh_node.self_test(multi.root)["cases"][:2]
    assert (equal["from"], equal["max_abs"], equal["passed"]) == ("shipped", 0, True)
    assert (missed["from"], missed["max_abs"]) == ("source", distance)


def test_large_integers_are_subtracted_exactly(multi, node):
    value = np.full(6, 2**60, np.int64)
    (golden, *_) = multi.manifest()["golden"]
    feed = next(x["path"] for x in golden["inputs"] if x["name"] == "i64")
    k, expected = next((k, e) for k, e in enumerate(golden["expect"]) if e["name"] == "out_i64")
    multi.replace(feed, value.tobytes())
    multi.replace(expected["path"], (value + 1).tobytes())
    multi.change(lambda m: m["golden"][0]["expect"][k].update(atol=0, rtol=0))
    case = node.self_test(multi.root)["cases"][k]
    assert (case["output"], case["max_abs"], case["passed"]) == ("out_i64", 1, False)


@pytest.mark.parametrize("least", ["99.0.0", "1.30.1", "1.30.0.1"])
def test_older_runtime_is_refused(conv, node, least):
    bundle = conv.change(_set("runtime", "min_version", least))
    assert node.error(bundle, "await session()") == (
        "runtime-too-old",
        f"onnxruntime-web is 1.30.0, the bundle needs {least}",
    )


@pytest.mark.parametrize("least", ["1.30.0", "1.30", "1.4.0", "0.99.99"])
def test_same_and_newer_runtimes_will_do(conv, node, least):
    bundle = conv.change(_set("runtime", "min_version", least))
    assert node.value(bundle, "return (await session()).report().runtime_version") == "1.30.0"


def test_without_any_provider_all_reasons_are_told(conv):
    code, outcome = run_self_test(conv.providers("CoreMLExecutionProvider"))
    assert code == 2
    assert outcome["error"] == {
        "kind": "provider-unavailable",
        "message": "no provider opens model/conv-ort.ort: "
        '{"CoreMLExecutionProvider":"onnxruntime-web does not have it"}',
    }


def test_providers_of_the_caller_are_tried_in_his_order(conv, node):
    report = node.value(
        conv.providers("CPUExecutionProvider", "WebGpuExecutionProvider"),
        """const providers = ['CUDAExecutionProvider', 'WebGpuExecutionProvider', 'CPUExecutionProvider'];
        return (await session({ providers })).report();""",
    )
    assert list(report["passed_over"]) == ["CUDAExecutionProvider", "WebGpuExecutionProvider"]
    assert report["passed_over"]["CUDAExecutionProvider"] == "onnxruntime-web does not have it"


def test_session_options_reach_the_runtime(conv, fresh_node):
    conv.change(_set("runtime", "session", "config", {"session.intra_op.allow_spinning": "maybe"}))
    given = fresh_node.value(
        conv.root,
        """let given;
        const create = ort.InferenceSession.create;
        ort.InferenceSession.create = (model, options) => { given = structuredClone(options); return create(model, options); };
        await session({ threads: 2 });
        return { ...given, threads: ort.env.wasm.numThreads };""",
    )
    assert given == {
        "executionProviders": [{"name": "wasm"}],
        "graphOptimizationLevel": "all",
        "extra": {"session.intra_op.allow_spinning": "maybe"},
        "threads": 2,
    }


def test_number_of_threads_is_that_of_the_first_session(conv, fresh_node):
    assert fresh_node.value(
        conv.root,
        """const first = await session({ threads: 2 });
        const second = await session({ threads: 3 });
        return [first.report().threads, second.report().threads];""",
    ) == [2, 2]


def test_what_is_closed_cannot_be_used_and_what_was_opened_stays_open(conv, node):
    assert node.value(
        conv.root,
        """const bundle = await open();
        const s = await bundle.session({ ort });
        bundle.close();
        const image = { data: new Float32Array(64), shape: [1, 8, 8, 1] };
        const alive = (await s.run({ image })).probabilities.shape;
        await Promise.all([s.close(), s.close()]);
        const message = (error) => error.message;
        return [alive, await bundle.session({ ort }).catch(message), await s.run({ image }).catch(message)];""",
    ) == [[1, 10], "the bundle is closed", "the session is closed"]


def test_self_test_without_onnxruntime_web_says_what_to_install(conv):
    code, outcome = run_self_test(conv.root, EDGEPACK_NODE_MODULES="", NODE_PATH="")
    assert code == 2
    assert outcome["error"] == {
        "kind": "provider-unavailable",
        "message": "onnxruntime-web is not to be found: npm install onnxruntime-web@1.29.0",
    }


def test_bundle_opens_over_http_and_tells_progress(conv, node):
    with serve(conv.root, isolated=False) as port:
        seen = node.value(
            conv.root,
            f"""const seen = [];
            const bundle = await EdgepackBundle.open(new URL('http://127.0.0.1:{port}/bundle?a#b'), {{ onProgress: (x) => seen.push(x) }});
            return [seen.at(-1), (await (await bundle.session({{ ort }})).selfTest()).passed];""",
        )
        nothing = node.error(conv.root, f"await EdgepackBundle.open('http://127.0.0.1:{port}/ort')")
    assert seen == [{"path": "model/conv-ort.ort", "loaded": 24840, "total": 24840}, True]
    assert nothing == (
        "bundle-not-found",
        f"cannot read http://127.0.0.1:{port}/ort/manifest.json: HTTP 404",
    )


FETCH = """
const { readFile } = process.getBuiltinModule('node:fs/promises');
const fetch = async (url) => new Response(url.pathname.endsWith('.ort') ? stream : await readFile(folder + url.pathname));
await EdgepackBundle.open('https://device.test', { fetch });
"""


def test_download_stops_at_the_listed_size(conv, node):
    endless = "const stream = new ReadableStream({ pull: (c) => c.enqueue(new Uint8Array(9999)) });"
    kind, message = node.error(conv.root, endless + FETCH)
    assert (kind, message) == (
        "file-corrupt",
        "model/conv-ort.ort has more than the 24840 bytes listed",
    )


def test_download_that_breaks_off_is_a_missing_file(conv, node):
    broken = (
        "const stream = new ReadableStream({ pull: (c) => c.error(new Error('cable pulled')) });"
    )
    assert node.error(conv.root, broken + FETCH) == (
        "file-missing",
        "cannot read https://device.test/model/conv-ort.ort: cable pulled",
    )
