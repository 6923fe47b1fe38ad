// An edgepack bundle on onnxruntime-web: in a page, a worker or Node. API: edgepack.d.mts.

const NAMES = { CPUExecutionProvider: 'wasm', WebGpuExecutionProvider: 'webgpu' };
const TURN = Symbol.for('edgepack.turn'); // one for all copies of this file

export const ARRAYS = {
  float32: Float32Array, float16: globalThis.Float16Array ?? Uint16Array, float64: Float64Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array, bool: Uint8Array,
};

export class EdgepackError extends Error {
  constructor(kind, message, cause) {
    super(message, { cause });
    Object.assign(this, { name: 'EdgepackError', kind });
  }
}

function fail(kind, message) {
  throw new EdgepackError(kind, message);
}

const invalid = (what) => fail('manifest-invalid', `manifest.json: ${what}`);

// manifest.json: what is read of it, each value's rule a pattern of its JSON

const text = /^".+"$/;
const texts = /^\{("([^"\\]|\\.)*":"([^"\\]|\\.)*",?)*\}$/;
const whole = /^\d{1,15}$/;
const bound = /^\d/;
const path = /^"\w[\w.-]*(\/\w[\w.-]*)*"$/;
const tensor = { name: text, dtype: RegExp(`^"(${Object.keys(ARRAYS).join('|')})"$`), shape: [/^(\d{1,15}|".+")$/] };
const stored = { ...tensor, shape: [whole], path };
const MANIFEST = {
  files: [{ path, size: /^[0-3]?\d{1,9}$/, sha256: text, role: text }], // WebAssembly ends at 4 GiB
  model: { path, precision: text },
  inputs: [tensor],
  outputs: [tensor],
  runtime: {
    min_version: /^"\d+(\.\d+)+"$/,
    providers: [{ name: text, options: texts }],
    session: { graph_optimization_level: /^"(disabled|basic|extended|all)"$/, intra_op_num_threads: whole, config: texts },
  },
  golden: [{ name: text, inputs: [stored], expect: [{ ...stored, from: text, atol: bound, rtol: bound }] }],
};

function check(value, rule, at) {
  const json = JSON.stringify(value) ?? 'missing';
  const list = Array.isArray(rule);
  const ok = list ? Array.isArray(value) : rule.test?.(json) ?? json[0] === '{';
  if (!ok) invalid(`${at} is ${json.slice(0, 80)}, expected ${rule.source ?? (list ? 'a list' : 'an object')}`);
  if (list) value.forEach((item, i) => check(item, rule[0], `${at}[${i}]`));
  else for (const key of Object.keys(rule)) check(value[key], rule[key], `${at}.${key}`);
}

export function parse(json) {
  let manifest;
  try {
    manifest = JSON.parse(json);
  } catch ({ message }) {
    invalid(message);
  }
  check(manifest, { schema: whole, critical: [text] }, '$');
  const { schema, critical } = manifest;
  if (schema > 1 || critical.length) fail('schema-unsupported', `manifest.json: schema ${schema}, critical [${critical}]`);
  check(manifest, MANIFEST, '$');
  return manifest;
}

const locate = (place) => new URL(place, globalThis.location?.href ?? `file://${process.cwd()}/`);

/** What `accept` makes of the file at `url`: of the copy in the browser's cache if that will do; for the `newest`, offline. */
async function read(url, accept, options) {
  const { newest, kind = 'file-missing', fetch = globalThis.fetch, cache = true, onProgress, signal } = options;
  const store = cache ? await globalThis.caches?.open('edgepack').catch(() => null) : null;
  const earlier = await store?.match(url);
  const kept = () => earlier && accept(earlier).catch(() => null);
  let value = newest ? null : await kept();
  if (value) return value;
  try {
    const response = url.protocol === 'file:'
      ? new Response(await process.getBuiltinModule('fs/promises').readFile(url))
      : await fetch(url, { signal, cache: 'no-cache' });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    value = await accept(response, onProgress);
  } catch (error) {
    signal?.throwIfAborted();
    value = error instanceof TypeError && await kept();
    if (value) return value;
    throw error.kind ? error : new EdgepackError(kind, `cannot read ${url}: ${error.message}`, error);
  }
  store?.put(url, new Response(newest ? JSON.stringify(value) : value)).catch(() => {});
  return value;
}

/** Takes an answer's bytes if size and SHA-256 are as listed. */
const asListed = ({ path, size, sha256 }) => async (response, onProgress) => {
  const corrupt = (what) => fail('file-corrupt', `${path} ${what}`);
  const bytes = new Uint8Array(size);
  let loaded = 0;
  const write = (chunk) => {
    if (loaded + chunk.length > size) corrupt(`has more than the ${size} bytes listed`);
    bytes.set(chunk, loaded);
    loaded += chunk.length;
    onProgress?.({ path, loaded, total: size });
  };
  await response.body.pipeTo(new WritableStream({ write }));
  if (!globalThis.crypto?.subtle) corrupt('can be checked on https: and localhost only');
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (loaded < size || hex !== sha256) corrupt(`has ${loaded} bytes, SHA-256 ${hex}; listed are ${size}, ${sha256}`);
  return bytes;
};

async function open(place, { onProgress, signal, ...options } = {}) {
  const base = locate(place);
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  const manifest = await read(new URL('manifest.json', base), async (response) => parse(await response.text()), {
    ...options, signal, newest: true, kind: 'bundle-not-found',
  });
  const { files, model, runtime } = manifest;
  const listed = (path, role) => files.find((file) => file.path === path && file.role === role)
    ?? invalid(`lists no ${path} of role ${role}`);
  const load = (file, more) => read(new URL(file.path, base), asListed(file), { ...options, ...more });
  const file = listed(model.path, 'model');
  let bytes = await load(file, { onProgress, signal });

  async function session({ ort, wasm, providers = runtime.providers.map(({ name }) => name), threads, onProgress, signal }) {
    if (!bytes) throw new Error('the bundle is closed');
    const { versions: { web: version }, wasm: settings } = ort.env;
    if (version.localeCompare(runtime.min_version, 'en', { numeric: true }) < 0) {
      fail('runtime-too-old', `onnxruntime-web is ${version}, the bundle needs ${runtime.min_version}`);
    }
    if (wasm) {
      const pinned = runtime.files.find(({ path }) => path.endsWith('.wasm'));
      settings.wasmBinary = await read(locate(wasm), asListed(pinned), { ...options, onProgress, signal });
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
        return sessionOf(ort, opened, manifest, golden, {
          provider, proven, passed_over, runtime_version: version, model_sha256: file.sha256,
          precision: model.precision, threads: settings.numThreads, isolated,
        });
      } catch ({ message }) {
        passed_over[provider] = message;
      }
    }
    fail('provider-unavailable', `no provider opens ${model.path}: ${JSON.stringify(passed_over)}`);
  }

  async function golden({ dtype, shape, path }) {
    const { buffer, length } = await load(listed(path, 'golden'));
    if (length !== volume(shape) * ARRAYS[dtype].BYTES_PER_ELEMENT) invalid(`${path} does not fill ${dtype} [${shape}]`);
    return { data: new ARRAYS[dtype](buffer), shape, dtype };
  }

  return { manifest, session, close: () => { bytes = null; } };
}

export const EdgepackBundle = { open };

async function start(provider, ort, bytes, { runtime, inputs }) {
  const listed = runtime.providers.find(({ name }) => name === provider);
  const name = NAMES[provider];
  if (!listed || !name) throw new Error(`${name ? 'manifest.json' : 'onnxruntime-web'} does not have it`);
  const create = (more, rest) => ort.InferenceSession.create(bytes.slice(), { // a proxy takes them away
    executionProviders: [{ ...listed.options, name }],
    graphOptimizationLevel: runtime.session.graph_optimization_level,
    extra: { ...runtime.session.config, ...more },
    ...rest,
  });
  if (name === 'wasm') return [await create(), true];
  return (await import('./webgpu.mjs')).provenOn(ort, create, inputs);
}

function sessionOf(ort, session, manifest, tensor, report) {
  async function run(values) {
    const feeds = toFeeds(ort, manifest.inputs, values);
    const answers = await inTurn(ort, () => {
      if (!session) throw new Error('the session is closed');
      return session.run(feeds);
    });
    const named = ([name, { data, dims, type }]) => [name, { data, shape: dims, dtype: type }];
    return Object.fromEntries(Object.entries(answers).map(named));
  }

  async function selfTest() {
    const cases = [];
    for (const { name, inputs, expect } of manifest.golden) {
      const values = {};
      for (const input of inputs) values[input.name] = await tensor(input);
      const answers = await run(values);
      for (const { name: output, from, atol, rtol, ...wanted } of expect) {
        cases.push({ case: name, output, from, atol, rtol, ...compare(answers[output], await tensor(wanted), atol, rtol) });
      }
    }
    return { passed: cases.length > 0 && cases.every(({ passed }) => passed), cases, report };
  }

  const close = () => inTurn(ort, async () => {
    await session?.release();
    session = null;
  });

  return { run, selfTest, report: () => report, close };
}

/** Does `work` after what came before: overlapping runs on WebGPU never end (1.30.0). */
function inTurn({ env }, work) {
  const result = Promise.resolve(env[TURN]).then(work);
  env[TURN] = result.catch(() => {});
  return result;
}

const volume = (shape) => shape.reduce((product, size) => product * size, 1);

function toFeeds({ Tensor }, inputs, values) {
  const feeds = {};
  const free = new Map(); // sizes of free dimensions, as far as known
  for (const { name, dtype, shape: wanted } of inputs) {
    const refuse = (kind, got) => fail(kind, `input '${name}': expected ${dtype} [${wanted}], got ${got}`);
    if (!values[name]) refuse('input-missing', 'nothing');
    const { data, shape, dtype: given = dtype } = values[name];
    if (given !== dtype || !(data instanceof ARRAYS[dtype])) refuse('dtype-mismatch', `${given} in a ${data?.constructor.name}`);
    const sizes = wanted.map((size, i) => {
      if (typeof size === 'string' && !free.has(size)) free.set(size, shape?.[i]);
      return free.get(size) ?? size;
    });
    if (`${sizes}` !== `${shape}` || data.length !== volume(sizes)) refuse('shape-mismatch', `${data.length} values for [${shape}]`);
    feeds[name] = new Tensor(dtype, data, shape);
  }
  const unknown = Object.keys(values).find((name) => !Object.hasOwn(feeds, name));
  if (unknown !== undefined) fail('input-unknown', `the model takes ${Object.keys(feeds)}, not '${unknown}'`);
  return feeds;
}

function compare(got, wanted, atol, rtol) {
  if (got?.dtype !== wanted.dtype || `${got.shape}` !== `${wanted.shape}`) return { max_abs: null, passed: false };
  const [a, b] = [got, wanted].map(numbers);
  let [worst, passed] = [0, true];
  for (let i = 0; i < b.length; i += 1) {
    if (a[i] === b[i] || Object.is(a[i], b[i])) continue;
    const distance = Math.abs(Number(a[i] - b[i])); // BigInts are subtracted exactly
    worst = Math.max(worst, distance);
    passed &&= Number.isFinite(distance) && distance <= atol + rtol * Math.abs(Number(b[i]));
  }
  return { max_abs: Number.isFinite(worst) ? worst : null, passed };
}

/** float16 is raw bits where the engine has no Float16Array. */
const numbers = ({ data, dtype }) => (dtype === 'float16' && data instanceof Uint16Array ? Array.from(data, half) : data);

function half(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}
