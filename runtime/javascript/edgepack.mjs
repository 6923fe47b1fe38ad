// Opens an edgepack bundle and runs its model on onnxruntime-web: in a page, a worker or Node. API: edgepack.d.mts.

import { asListed, locate, read } from './files.mjs';
import { ARRAYS, EdgepackError, fail, parse, volume } from './manifest.mjs';

export { ARRAYS, EdgepackError };

const NAMES = { CPUExecutionProvider: 'wasm', WebGpuExecutionProvider: 'webgpu' };
const TURN = Symbol.for('edgepack.turn'); // one for all copies of this file

const isFree = (size) => typeof size === 'string';

async function open(place, { onProgress, signal, ...options } = {}) {
  const base = locate(place);
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  const at = (path) => new URL(path.split('/').map(encodeURIComponent).join('/'), base);
  const manifest = await read(at('manifest.json'), async (response) => parse(await response.text()), {
    ...options, signal, newest: true, kind: 'bundle-not-found',
  });
  const { files, model, runtime } = manifest;
  const listed = (path, as) => files.find((file) => file.path === path && (!as || file.role === as))
    ?? fail('manifest-invalid', `manifest.json lists no ${path}`);
  const load = (path, more) => read(at(path), asListed(listed(path)), { ...options, ...more });
  listed(model.path, 'model');
  let bytes = await load(model.path, { onProgress, signal });

  async function session({ ort, wasm, providers = runtime.providers.map(({ name }) => name), threads, onProgress, signal }) {
    if (!bytes) throw new Error('the bundle is closed');
    const { versions: { web: version }, wasm: settings } = ort.env;
    if (version.localeCompare(runtime.min_version, 'en', { numeric: true }) < 0) {
      fail('runtime-too-old', `onnxruntime-web is ${version}, the bundle needs ${runtime.min_version}`);
    }
    if (wasm) {
      const file = runtime.files.find(({ path }) => path.endsWith('.wasm'));
      settings.wasmBinary = await read(locate(wasm), asListed(file), { ...options, onProgress, signal });
    }
    const isolated = globalThis.crossOriginIsolated ?? null;
    const wanted = threads ?? runtime.session.intra_op_num_threads;
    if (isolated !== false) settings.numThreads ||= wanted; // read once, when onnxruntime-web starts
    else if (wanted !== 1) console.warn('edgepack: one thread: the page is not cross-origin isolated');
    const passed_over = {};
    for (const provider of providers) {
      try {
        const [opened, proven] = await inTurn(ort, () => start(provider, ort, bytes, manifest));
        settings.wasmBinary = undefined;
        return sessionOf(ort, opened, manifest, load, {
          provider, proven, passed_over, runtime_version: version, model_sha256: listed(model.path).sha256,
          precision: model.precision, threads: settings.numThreads, isolated,
        });
      } catch (error) {
        passed_over[provider] = error.message;
      }
    }
    return fail('provider-unavailable', `no provider opens ${model.path}: ${JSON.stringify(passed_over)}`);
  }

  return { manifest, session, close: () => { bytes = null; } };
}

export const EdgepackBundle = { open };

async function start(provider, { InferenceSession, Tensor, env }, bytes, { runtime, inputs }) {
  const listed = runtime.providers.find(({ name }) => name === provider);
  const name = NAMES[provider];
  if (!listed || !name) throw new Error(`${name ? 'manifest.json' : 'onnxruntime-web'} does not have it`);
  const create = (extra, logSeverityLevel = 2) => InferenceSession.create(bytes.slice(), { // a proxy takes them away
    executionProviders: [{ ...listed.options, name }],
    graphOptimizationLevel: runtime.session.graph_optimization_level,
    extra: { ...runtime.session.config, ...extra },
    logSeverityLevel,
  });
  if (name === 'wasm') return [await create(), true];
  // Fails, silently, unless every node runs there
  const alone = await create({ 'session.disable_cpu_ep_fallback': '1' }, 4).catch(() => null);
  const session = alone ?? await create();
  try {
    // Only the default build locks the device that it found (jsep/backend-webgpu.ts, 1.30.0).
    const device = Object.getOwnPropertyDescriptor(env.webgpu, 'device');
    if (device?.writable === false) throw new Error('this build is wrong there: import onnxruntime-web/webgpu');
    // Some .ort files open and cannot run (1.30.0). This compiles the shaders, too.
    const feeds = {};
    for (const { name, dtype, shape } of inputs) {
      const sizes = shape.map((size) => (isFree(size) ? 1 : size));
      feeds[name] = new Tensor(dtype, new ARRAYS[dtype](volume(sizes)), sizes);
    }
    await session.run(feeds);
  } catch (error) {
    await session.release();
    throw error;
  }
  return [session, alone !== null];
}

function sessionOf(ort, session, { inputs, golden }, load, report) {
  async function run(values) {
    const feeds = toFeeds(ort, inputs, values);
    const answers = await inTurn(ort, () => {
      if (!session) throw new Error('the session is closed');
      return session.run(feeds);
    });
    const outputs = Object.entries(answers);
    return Object.fromEntries(outputs.map(([name, { data, dims, type }]) => [name, { data, shape: dims, dtype: type }]));
  }

  async function selfTest() {
    const { judge } = await import('./golden.mjs');
    return { ...await judge(golden, run, load), report };
  }

  async function close() {
    const closing = session;
    session = null;
    await inTurn(ort, () => closing?.release());
  }

  return { run, selfTest, report: () => report, close };
}

/** Does `work` after what came before: overlapping runs on WebGPU never end (1.30.0). */
function inTurn({ env }, work) {
  const result = (env[TURN] ?? Promise.resolve()).then(work);
  env[TURN] = result.catch(() => {});
  return result;
}

function toFeeds({ Tensor }, inputs, values) {
  const feeds = {};
  const sizes = new Map(); // of free dimensions, as far as known
  for (const { name, dtype, shape: wanted } of inputs) {
    const refuse = (kind, got) => fail(kind, `input '${name}': expected ${dtype} [${wanted}], got ${got}`);
    if (!values[name]) refuse('input-missing', 'nothing');
    const { data, shape, dtype: given = dtype } = values[name];
    if (given !== dtype || !(data instanceof ARRAYS[dtype])) refuse('dtype-mismatch', `${given} in a ${data?.constructor.name}`);
    const fits = shape?.length === wanted.length && wanted.every((size, i) => {
      if (isFree(size) && !sizes.has(size)) sizes.set(size, shape[i]);
      return Number.isInteger(shape[i]) && shape[i] === (isFree(size) ? sizes.get(size) : size);
    });
    if (!fits || data.length !== volume(shape)) refuse('shape-mismatch', `${data.length} values for [${shape}]`);
    feeds[name] = new Tensor(dtype, data, shape);
  }
  const unknown = Object.keys(values).filter((name) => !Object.hasOwn(feeds, name));
  if (unknown.length) fail('input-unknown', `the model takes ${Object.keys(feeds)}, not '${unknown}'`);
  return feeds;
}
