// Times one model on several engines in this page, runs interleaved. Everything is WebAssembly on one thread.

import * as ort from '/ort/ort.wasm.bundle.min.mjs';
import { loadAndCompile, loadLiteRt, Tensor } from '/litert/core/dist/index.js';

const ARRAYS = { float32: Float32Array, int32: Int32Array };
const MOST = 400;

const engines = {
  async onnxruntime({ url, options }, { data, dtype, shape }) {
    const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'], ...options });
    const [input] = session.inputNames;
    const [output] = session.outputNames;
    return async () => (await session.run({ [input]: new ort.Tensor(dtype, data, shape) }))[output].data;
  },
  async tensorflow({ url }, { data, dtype, shape }) {
    const model = await tf.loadGraphModel(url);
    return async () => {
      const x = tf.tensor(data, shape, dtype);
      const y = model.execute(x);
      const answer = await y.data();
      tf.dispose([x, y]);
      return answer;
    };
  },
  async litert({ url }, { data, shape }) {
    const model = await loadAndCompile(url, { accelerator: 'wasm' });
    return async () => {
      const x = new Tensor(data, shape);
      const [y] = await model.run([x]);
      const answer = y.toTypedArray().slice();
      x.delete();
      y.delete();
      return answer;
    };
  },
};

/** Engines' start-up: not timed. */
export async function start() {
  ort.env.wasm.wasmPaths = { wasm: '/ort/ort-wasm-simd-threaded.wasm' };
  ort.env.wasm.numThreads = 1;
  tf.wasm.setWasmPaths('/tfjs/tfjs-backend-wasm/dist/');
  await tf.setBackend('wasm');
  await tf.ready();
  await loadLiteRt('/litert/core/wasm/');
  if (crossOriginIsolated) throw new Error('an isolated page has threads');
  return { onnxruntime: ort.env.versions.web, tensorflow: tf.version_core, backend: tf.getBackend() };
}

/** {name: {answer, times: [ms]} or {error}}; times are of rounds in which every engine has its turn. */
export async function compare({ entries, input, budget_ms: budget }) {
  const feed = { ...input, data: new ARRAYS[input.dtype](input.data) };
  const result = {};
  const runs = new Map();
  for (const entry of entries) {
    try {
      const run = await engines[entry.engine](entry, feed);
      result[entry.name] = { answer: Array.from(await run()), times: [] };
      runs.set(entry.name, { run, count: 1 });
    } catch (error) {
      result[entry.name] = { error: String(error?.message ?? error) };
    }
  }
  for (const warm of runs.values()) { // until V8 has compiled it well, and to know how many runs the clock (0.1 ms) needs for 1 %
    const begun = performance.now();
    let done = 0;
    while (done < 10 || performance.now() - begun < 300) {
      await warm.run();
      done += 1;
    }
    warm.count = Math.max(1, Math.ceil(10 / ((performance.now() - begun) / done)));
  }
  const begun = performance.now();
  for (let round = 0; round < MOST && (round < 9 || performance.now() - begun < budget); round += 1) {
    for (const [name, { run, count }] of runs) {
      await run(); // what the engine before left in the caches is not this one's time
      const from = performance.now();
      for (let i = 0; i < count; i += 1) await run();
      result[name].times.push((performance.now() - from) / count);
    }
  }
  return result;
}
