// manifest.json: what this loader reads of it, every value checked.

const FIELDS = 'schema critical release target model inputs outputs runtime golden files build'.split(' ');

export const ARRAYS = {
  float32: Float32Array, float16: globalThis.Float16Array ?? Uint16Array, float64: Float64Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array, bool: Uint8Array,
};

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

export const volume = (shape) => shape.reduce((product, size) => product * size, 1);

// A value's rule is a pattern of its JSON.
const text = /^".+"$/;
const texts = /^\{("([^"\\]|\\.)*":"([^"\\]|\\.)*",?)*\}$/;
const whole = /^\d{1,15}$/;
const bound = /^\d/;
const level = /^"(disabled|basic|extended|layout|all)"$/;
const path = /^"(?!\.{0,2}[/"])(?!.*\/\.{0,2}[/"])([^"\\]|\\")+"$/; // relative, no part empty, . or ..
const dtype = RegExp(`^"(${Object.keys(ARRAYS).join('|')})"$`);
const tensor = { name: text, dtype, shape: [/^(\d{1,15}|".+")$/] };
const stored = { ...tensor, shape: [whole], path };
const RULES = {
  files: [{ path, size: /^[0-3]?\d{1,9}$/, sha256: /^"[0-9a-f]{64}"$/, role: text }], // WebAssembly ends at 4 GiB
  model: { path, precision: text },
  inputs: [tensor],
  outputs: [tensor],
  runtime: {
    min_version: /^"\d+(\.\d+)+"$/,
    providers: [{ name: text, options: texts }],
    session: { graph_optimization_level: level, intra_op_num_threads: whole, config: texts },
  },
  golden: [{ name: text, inputs: [stored], expect: [{ ...stored, from: text, atol: bound, rtol: bound }] }],
};

const refuse = (what) => fail('manifest-invalid', `manifest.json: ${what}`);

function check(value, rule, at) {
  const json = JSON.stringify(value) ?? 'missing';
  const list = Array.isArray(rule);
  const ok = list ? Array.isArray(value) : rule.test?.(json) ?? json[0] === '{';
  if (!ok) refuse(`${at} is ${json.slice(0, 80)}, expected ${list ? 'a list' : rule.test ? rule : 'an object'}`);
  if (list) value.forEach((item, i) => check(item, rule[0], `${at}[${i}]`));
  else for (const key of Object.keys(rule)) check(value[key], rule[key], `${at}.${key}`);
}

export function parse(json) {
  let manifest;
  try {
    manifest = JSON.parse(json);
  } catch (error) {
    refuse(error.message);
  }
  check(manifest, { schema: whole, critical: [text] }, '$');
  const unknown = manifest.critical.filter((field) => !FIELDS.includes(field));
  if (manifest.schema > 1) fail('schema-unsupported', `manifest.json: schema ${manifest.schema} is newer`);
  if (unknown.length) fail('schema-unsupported', `manifest.json: critical names ${unknown}`);
  check(manifest, RULES, '$');
  return manifest;
}
