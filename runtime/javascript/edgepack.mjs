// Opens an edgepack bundle and runs its model on onnxruntime-web: in a page, a worker or Node. API: edgepack.d.mts.

import { ARRAYS, EdgepackError, describe, fail, isSize, parse, volume } from './manifest.mjs';

export { ARRAYS, EdgepackError };

const PROVIDERS = { CPUExecutionProvider: 'wasm', WebGpuExecutionProvider: 'webgpu' };
const ALSO = { float16: Uint16Array, uint8: Uint8ClampedArray }; // which ort.Tensor takes, too
const NODE = typeof document === 'undefined' && globalThis.process?.versions?.node;
const TURN = Symbol.for('edgepack.turn');

const oneLine = (error) => String(error?.message ?? error).split(/\s+/).join(' ').trim();

export class EdgepackBundle {
  #get;
  #files;
  #model;

  static async open(place, { fetch = globalThis.fetch, onProgress } = {}) {
    if (!globalThis.crypto?.subtle) {
      const where = `browsers have crypto.subtle on https: and localhost only, not on ${globalThis.origin}`;
      fail('file-corrupt', `SHA-256 cannot be checked: ${where}`);
    }
    const bundle = new EdgepackBundle();
    bundle.#get = getter(locate(place), fetch);
    const { manifest, files } = parse(await (await bundle.#get('manifest.json')).text());
    bundle.manifest = manifest;
    bundle.#files = files;
    const models = manifest.files.filter(({ role }) => role === 'model');
    const total = models.reduce((sum, { size }) => sum + size, 0);
    let loaded = 0;
    for (const file of models) {
      const bytes = await bundle.#read(file.path, (size) => onProgress?.({ loaded: loaded += size, total }));
      if (file.path === manifest.model.path) bundle.#model = bytes;
    }
    return bundle;
  }

  async session({ ort, providers, threads } = {}) {
    const version = ort?.env?.versions?.web;
    if (!version) throw new TypeError('session({ ort }) takes the imported onnxruntime-web module');
    if (!this.#model) throw new Error('the bundle is closed');
    const { model, runtime } = this.manifest;
    if (isOlder(version, runtime.min_version)) {
      fail('runtime-too-old', `onnxruntime-web is ${version}, this bundle needs ${runtime.min_version} or newer`);
    }
    const isolated = globalThis.crossOriginIsolated ?? null;
    const wanted = threads ?? runtime.session.intra_op_num_threads;
    // Read once, when onnxruntime-web starts: a number found here is the app's or an earlier session's.
    if (wanted && isolated !== false) ort.env.wasm.numThreads ||= wanted;

    const passedOver = {};
    for (const name of providers ?? runtime.providers.map((provider) => provider.name)) {
      try {
        const opened = await inTurn(ort, () => this.#open(ort, name));
        const report = {
          provider: name,
          proven: opened.proven,
          nodes: null,
          passed_over: passedOver,
          runtime_version: version,
          model_sha256: this.#files.get(model.path).sha256,
          precision: model.precision,
          threads: ort.env.wasm.numThreads,
          isolated,
          adapter: PROVIDERS[name] === 'webgpu' ? adapterOf(ort) : null,
        };
        warnOfThreads(wanted, report);
        return new EdgepackSession(ort, opened.session, this.manifest, report, (path) => this.#read(path));
      } catch (error) {
        passedOver[name] = oneLine(error);
      }
    }
    const reasons = Object.entries(passedOver).map(([name, why]) => `${name}: ${why}`).join('; ');
    return fail('provider-unavailable', `no provider opens ${model.path}: ${reasons}`);
  }

  close() {
    this.#model = null;
  }

  /** The bytes of a listed file once size and SHA-256 are as listed; reads no more than that size. */
  async #read(path, onChunk = () => {}) {
    const { size, sha256 } = this.#files.get(path);
    const bytes = new Uint8Array(size);
    const chunks = (await this.#get(path)).body.getReader();
    const brokeOff = (error) => fail('file-missing', `${path} broke off: ${oneLine(error)}`, error);
    const next = () => chunks.read().catch(brokeOff);
    let at = 0;
    for (let { value } = await next(); value; { value } = await next()) {
      at += value.length;
      if (at > size) {
        await chunks.cancel();
        fail('file-corrupt', `${path} has more than the ${size} bytes that manifest.json says`);
      }
      bytes.set(value, at - value.length);
      onChunk(value.length);
    }
    if (at < size) fail('file-corrupt', `${path} has ${at} bytes, manifest.json says ${size}`);
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
    if (hex !== sha256) fail('file-corrupt', `${path} has SHA-256 ${hex}, manifest.json says ${sha256}`);
    return bytes;
  }

  async #open(ort, name) {
    const provider = this.manifest.runtime.providers.find((listed) => listed.name === name);
    if (!provider) throw new Error('manifest.json does not list it');
    if (!PROVIDERS[name]) throw new Error('onnxruntime-web does not have it');
    if (PROVIDERS[name] === 'wasm') return { session: await this.#create(ort, provider), proven: true };
    // First in a way that fails, without a word on the console, unless every node runs on this provider.
    const strict = { extra: { 'session.disable_cpu_ep_fallback': '1' }, logSeverityLevel: 4 };
    const alone = await this.#create(ort, provider, strict).catch(() => null);
    const session = alone ?? await this.#create(ort, provider);
    try {
      if (isJsep(ort)) throw new Error('the default build is wrong on WebGPU: import onnxruntime-web/webgpu');
      // Opening proves little: quantized .ort files open and cannot run (1.30.0). This compiles the shaders, too.
      await session.run(zeros(ort, this.manifest.inputs));
    } catch (error) {
      await session.release();
      throw error;
    }
    return { session, proven: alone !== null };
  }

  async #create(ort, provider, { extra, ...options } = {}) {
    const { inputs, outputs, runtime } = this.manifest;
    // A proxy worker takes the bytes away.
    const session = await ort.InferenceSession.create(ort.env.wasm.proxy ? this.#model.slice() : this.#model, {
      executionProviders: [{ ...provider.options, name: PROVIDERS[provider.name] }],
      graphOptimizationLevel: runtime.session.graph_optimization_level,
      extra: { ...runtime.session.config, ...extra },
      ...options,
    });
    const declared = [inputs, outputs].map((specs) => specs.map(({ name }) => name).sort());
    const actual = [session.inputNames, session.outputNames].map((names) => [...names].sort());
    if (JSON.stringify(declared) !== JSON.stringify(actual)) {
      await session.release();
      const [got, said] = [actual, declared].map((names) => JSON.stringify(names));
      throw new Error(`the model's inputs and outputs are ${got}, manifest.json says ${said}`);
    }
    return session;
  }
}

class EdgepackSession {
  #ort;
  #session;
  #manifest;
  #inputs;
  #report;
  #read;

  constructor(ort, session, manifest, report, read) {
    this.#ort = ort;
    this.#session = session;
    this.#manifest = manifest;
    this.#inputs = new Map(manifest.inputs.map((spec) => {
      const fixed = spec.shape.every(isSize) ? spec.shape : undefined;
      return [spec.name, { ...spec, fixed, wanted: `input '${spec.name}': expected ${describe(spec)}` }];
    }));
    this.#report = report;
    this.#read = read;
  }

  async run(inputs) {
    const feeds = this.#feeds(inputs);
    const answers = await inTurn(this.#ort, () => {
      if (!this.#session) throw new Error('the session is closed');
      return this.#session.run(feeds);
    });
    const outputs = {};
    for (const [name, { data, dims, type }] of Object.entries(answers)) {
      outputs[name] = { data, shape: dims, dtype: type };
    }
    return outputs;
  }

  async selfTest() {
    const load = async ({ dtype, shape, path }) => {
      const { buffer } = await this.#read(path);
      return { data: new ARRAYS[dtype](buffer), shape, dtype };
    };
    const cases = [];
    for (const { name, inputs, expect } of this.#manifest.golden) {
      const feeds = {};
      for (const input of inputs) feeds[input.name] = await load(input);
      const answers = await this.run(feeds);
      for (const wanted of expect) {
        const outcome = compare(answers[wanted.name], await load(wanted), wanted);
        cases.push({ case: name, output: wanted.name, from: wanted.from, ...outcome });
      }
    }
    return { passed: cases.length > 0 && cases.every(({ passed }) => passed), cases, report: this.report() };
  }

  report() {
    return structuredClone(this.#report);
  }

  async close() {
    await inTurn(this.#ort, async () => {
      const session = this.#session;
      this.#session = null;
      await session?.release();
    });
  }

  #feeds(inputs) {
    for (const [name, { wanted }] of this.#inputs) {
      if (inputs[name] === undefined) fail('input-missing', `${wanted}, got only [${Object.keys(inputs)}]`);
    }
    for (const name of Object.keys(inputs)) {
      if (!this.#inputs.has(name)) fail('input-unknown', `the model takes ${[...this.#inputs.keys()]}, not '${name}'`);
    }
    const feeds = {};
    const sizes = new Map(); // of the free dimensions that this call has bound so far
    for (const [name, spec] of this.#inputs) {
      feeds[name] = this.#tensor(spec, inputs[name], sizes);
    }
    return feeds;
  }

  #tensor({ dtype, shape: declared, fixed, wanted }, value, sizes) {
    if (value instanceof this.#ort.Tensor) {
      if (value.type !== dtype) fail('dtype-mismatch', `${wanted}, got ${value.type}`);
      bind(declared, value.dims, sizes, wanted);
      return value;
    }
    const given = ArrayBuffer.isView(value) ? { data: value, shape: fixed } : value ?? {};
    const { data, shape } = given;
    const arrays = [ARRAYS[dtype], ALSO[dtype] ?? ARRAYS[dtype]];
    if ((given.dtype ?? dtype) !== dtype || !arrays.some((array) => data instanceof array)) {
      const got = `${given.dtype ?? ''} ${data?.constructor.name ?? typeof data}`.trim();
      fail('dtype-mismatch', `${wanted} in a ${arrays[0].name}, got ${got}`);
    }
    bind(declared, shape, sizes, wanted);
    if (data.length !== volume(shape)) {
      fail('shape-mismatch', `${wanted}, got ${data.length} values for [${shape.join(', ')}]`);
    }
    return new this.#ort.Tensor(dtype, data, shape);
  }
}

/** Accepts `shape` if free dimensions can explain it, the same name always by the same size. */
function bind(declared, shape, sizes, wanted) {
  const fits = Array.isArray(shape) && shape.length === declared.length && declared.every((size, i) => {
    if (isSize(size)) return shape[i] === size;
    if (!sizes.has(size) && isSize(shape[i])) sizes.set(size, shape[i]);
    return sizes.get(size) === shape[i];
  });
  if (fits) return;
  const bound = Array.from(sizes, ([name, size]) => `, ${name} is ${size}`).join('');
  fail('shape-mismatch', `${wanted}${bound}, got ${Array.isArray(shape) ? `[${shape.join(', ')}]` : 'no shape'}`);
}

function compare(got, wanted, { atol, rtol }) {
  const outcome = { max_abs: null, atol, rtol, passed: false };
  if (describe(got) !== describe(wanted)) {
    return { ...outcome, why: `${describe(got)}, expected ${describe(wanted)}` };
  }
  const number = wanted.dtype === 'float16' && wanted.data instanceof Uint16Array ? fromHalf : (v) => v;
  let worst = 0;
  let passed = true;
  for (let i = 0; i < wanted.data.length; i += 1) {
    const [a, b] = [number(got.data[i]), number(wanted.data[i])];
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    const distance = Math.abs(Number(a - b)); // BigInts are subtracted exactly
    worst = Math.max(worst, distance);
    passed &&= Number.isFinite(distance) && distance <= atol + rtol * Math.abs(Number(b));
  }
  return { ...outcome, max_abs: Number.isFinite(worst) ? worst : null, passed };
}

/** The number in 16 bits of IEEE 754 binary16. */
function fromHalf(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

/**
 * Runs `work` when what came before is done. onnxruntime-web does one thing at a time: overlapping runs on WebGPU, of
 * whatever sessions, never end (1.30.0). Kept on `env`, since each bundle on a page may bring a copy of this file.
 */
function inTurn({ env }, work) {
  const result = (env[TURN] ?? Promise.resolve()).then(work);
  env[TURN] = result.catch(() => {});
  return result;
}

function zeros(ort, specs) {
  const feeds = {};
  for (const { name, dtype, shape } of specs) {
    const sizes = shape.map((size) => (isSize(size) ? size : 1));
    feeds[name] = new ort.Tensor(dtype, new ARRAYS[dtype](volume(sizes)), sizes);
  }
  return feeds;
}

/** The default build of onnxruntime-web. Only it locks the device that it found (jsep/backend-webgpu.ts, 1.30.0). */
const isJsep = ({ env }) => Object.getOwnPropertyDescriptor(env.webgpu, 'device')?.writable === false;

function adapterOf({ env }) {
  const { vendor, architecture, isFallbackAdapter } = env.webgpu.device?.adapterInfo ?? {};
  return [vendor, architecture, isFallbackAdapter && '(software)'].filter(Boolean).join(' ') || null;
}

function warnOfThreads(wanted, { threads, isolated }) {
  if (isolated === false ? wanted === 1 : !wanted || wanted === threads) return;
  const why = isolated === false
    ? 'the page is not cross-origin isolated (headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy)'
    : 'onnxruntime-web had started with that number';
  console.warn(`edgepack: ${threads} thread(s): ${why}`);
}

/** The bundle's URL. A scheme has two letters at least: C:\ is a folder. */
function locate(place) {
  const named = String(place);
  let url;
  if (/^[a-z][a-z0-9+.-]+:/i.test(named)) url = new URL(named);
  else if (NODE) url = process.getBuiltinModule('node:url').pathToFileURL(named);
  else url = new URL(named, globalThis.document?.baseURI ?? globalThis.location.href);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}

/** A function that gets a file of the bundle, as a Response. */
function getter(base, fetch) {
  return async (path) => {
    const url = new URL(path.split('/').map(encodeURIComponent).join('/'), base);
    try {
      if (NODE && url.protocol === 'file:') { // no import of node:fs, which bundlers would try to follow
        return new Response(await process.getBuiltinModule('node:fs/promises').readFile(url));
      }
      const response = await fetch(url);
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      return response;
    } catch (error) {
      const kind = path === 'manifest.json' ? 'bundle-not-found' : 'file-missing';
      return fail(kind, `cannot read ${path} of ${base}: ${oneLine(error)}`, error);
    }
  };
}

function isOlder(version, least) {
  const [have, need] = [version, least].map((v) => v.split('.').map((n) => parseInt(n, 10)));
  const i = need.findIndex((n, k) => n !== (have[k] ?? 0));
  return i >= 0 && (have[i] ?? 0) < need[i];
}
