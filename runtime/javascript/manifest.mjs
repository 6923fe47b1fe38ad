// manifest.json: what this loader reads of it, every value checked. The contract: schema 1 of edgepack's bundles.

const SCHEMA = 1;
const FIELDS = 'schema critical release target model inputs outputs runtime golden files build'.split(' ');

/** The typed array of each dtype. */
export const ARRAYS = Object.freeze({
  float32: Float32Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
});

export class EdgepackError extends Error {
  name = 'EdgepackError';

  constructor(kind, message, cause) {
    super(message, { cause });
    this.kind = kind;
  }
}

export const fail = (...args) => {
  throw new EdgepackError(...args);
};
export const describe = ({ dtype, shape }) => `${dtype} [${shape.join(', ')}]`;
export const volume = (shape) => shape.reduce((product, size) => product * size, 1);
export const isSize = (v) => Number.isSafeInteger(v) && v >= 0;

const isObject = (v) => typeof v === 'object' && v !== null && !Array.isArray(v);
const rule = (what, test) => ({ what, test });
const oneOf = (...words) => rule(`one of ${words.join(', ')}`, (v) => words.includes(v));
const text = rule('a text', (v) => typeof v === 'string' && v !== '');
const texts = rule('an object of texts', (v) => isObject(v) && Object.values(v).every((x) => typeof x === 'string'));
const whole = rule('a whole number', isSize);
const bound = rule('a number of at least 0', (v) => Number.isFinite(v) && v >= 0);
const matching = (what, pattern) => rule(what, (v) => typeof v === 'string' && pattern.test(v));
const path = rule("a relative path without '..' and backslashes", (v) => text.test(v) && !/[\\\p{C}]/u.test(v)
  && !v.split('/').some((part) => ['', '.', '..'].includes(part)));
const dtype = oneOf(...Object.keys(ARRAYS));
const TENSOR = { name: text, dtype, shape: [rule('a size or a name', (v) => isSize(v) || text.test(v))] };
const STORED = { name: text, dtype, shape: [whole], path };
const MANIFEST = {
  files: [{
    path, role: text,
    size: rule('a size below 4 GiB', (v) => isSize(v) && v < 2 ** 32), // the most that WebAssembly can hold
    sha256: matching('64 lower-case hex digits', /^[0-9a-f]{64}$/),
  }],
  model: { path, precision: text },
  inputs: [TENSOR],
  outputs: [TENSOR],
  runtime: {
    min_version: matching('a version such as 1.30.0', /^\d+(\.\d+)+$/),
    providers: [{ name: text, options: texts }],
    session: {
      graph_optimization_level: oneOf('disabled', 'basic', 'extended', 'layout', 'all'),
      intra_op_num_threads: whole, config: texts,
    },
  },
  golden: [{ name: text, inputs: [STORED], expect: [{ ...STORED, from: text, atol: bound, rtol: bound }] }],
};

function demand(ok, at, value, what) {
  if (ok) return;
  const got = value === undefined ? 'missing' : JSON.stringify(value).slice(0, 80);
  fail('manifest-invalid', `manifest.json: ${at || 'the whole'} is ${got}, expected ${what}`);
}

function conform(value, wanted, at) {
  if (wanted.test) return demand(wanted.test(value), at, value, wanted.what);
  if (Array.isArray(wanted)) {
    demand(Array.isArray(value), at, value, 'a list');
    return value.forEach((item, i) => conform(item, wanted[0], `${at}[${i}]`));
  }
  demand(isObject(value), at, value, 'an object');
  for (const key of Object.keys(wanted)) conform(value[key], wanted[key], at ? `${at}.${key}` : key);
}

/** The manifest, every value checked that this loader reads, and its files by path. */
export function parse(json) {
  let manifest;
  try {
    manifest = JSON.parse(json);
  } catch (error) {
    fail('manifest-invalid', `manifest.json is not JSON, it starts with ${JSON.stringify(json.slice(0, 20))}`, error);
  }
  conform(manifest, { schema: whole }, '');
  if (manifest.schema > SCHEMA) {
    fail('schema-unsupported', `manifest.json has schema ${manifest.schema}, this loader knows ${SCHEMA}`);
  }
  conform(manifest, { critical: [text] }, '');
  const unknown = manifest.critical.filter((field) => !FIELDS.includes(field));
  if (unknown.length) fail('schema-unsupported', `manifest.json: critical names ${unknown}, unknown to this loader`);
  conform(manifest, MANIFEST, '');

  const files = new Map(manifest.files.map((file) => [file.path, file]));
  const listed = (role, name, at) => {
    demand(files.get(name)?.role === role, at, name, `a path that files lists with role ${role}`);
  };
  demand(files.size === manifest.files.length, 'files', [...files.keys()], 'a list in which no path is there twice');
  listed('model', manifest.model.path, 'model.path');
  const stored = (declared, what) => (tensor) => {
    demand(declared.some(({ name }) => name === tensor.name), `name of ${tensor.path}`, tensor.name, what);
    listed('golden', tensor.path, 'path of a golden tensor');
    const bytes = volume(tensor.shape) * ARRAYS[tensor.dtype].BYTES_PER_ELEMENT;
    demand(files.get(tensor.path).size === bytes, `size of ${tensor.path}`, files.get(tensor.path).size, bytes);
  };
  manifest.golden.forEach(({ inputs, expect }) => {
    inputs.forEach(stored(manifest.inputs, 'a declared input'));
    expect.forEach(stored(manifest.outputs, 'a declared output'));
  });
  return { manifest, files };
}
