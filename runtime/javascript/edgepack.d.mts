// Types and documentation of edgepack.mjs.

/** Why something failed; `EdgepackError.kind`. */
export type ErrorKind =
  | 'bundle-not-found' // no manifest.json in the place given
  | 'manifest-invalid' // not JSON, a field missing or of the wrong type, an unsafe path
  | 'schema-unsupported' // a newer schema, or a critical field, of which this loader knows none
  | 'file-missing' // a listed file is not there, or its download broke off
  | 'file-corrupt' // size or SHA-256 differ from the manifest's, or cannot be checked for want of crypto.subtle
  | 'runtime-too-old' // onnxruntime-web is older than runtime.min_version
  | 'provider-unavailable' // no provider opens the model; the message has each one's reason
  | 'input-missing' // a declared input was not given
  | 'input-unknown' // a given input is not declared
  | 'dtype-mismatch' // the array is not of the declared dtype
  | 'shape-mismatch'; // the shape is not the declared one, or the data do not fill it

/** Every error of this loader. The message names the file or tensor, what was expected and what came. */
export class EdgepackError extends Error {
  readonly kind: ErrorKind;
}

type HalfArray = typeof globalThis extends { Float16Array: { new (length: number): infer A } } ? A : Uint16Array;

/** The typed array of each dtype. float16 is a Float16Array, or raw bits in a Uint16Array where the engine has none. */
export interface Arrays {
  float32: Float32Array;
  float16: HalfArray | Uint16Array;
  float64: Float64Array;
  int8: Int8Array;
  uint8: Uint8Array;
  int16: Int16Array;
  uint16: Uint16Array;
  int32: Int32Array;
  uint32: Uint32Array;
  int64: BigInt64Array;
  uint64: BigUint64Array;
  /** One byte each, 0 or 1. */
  bool: Uint8Array;
}

export type Dtype = keyof Arrays;

/** `new ARRAYS.float32(64)`: the constructor of each dtype's typed array. */
export const ARRAYS: { readonly [D in Dtype]: new (length: number) => Arrays[D] };

/** Values in row-major order and their shape; a scalar's shape is `[]`. */
export interface TensorData {
  data: Arrays[Dtype];
  shape: readonly number[];
  dtype: Dtype;
}

/** What `run` takes for one input: the declared dtype's array and a shape. An answer of `run` is one, too. */
export interface Input {
  data: Arrays[Dtype];
  shape: readonly number[];
  dtype?: Dtype;
}

/** How an image becomes an input; runtime/README.md of edgepack has the steps, demo/image.mjs does them. */
export interface Preprocessing {
  readonly height: number;
  readonly width: number;
  readonly resize: 'stretch' | 'crop' | 'letterbox';
  readonly shorter_side?: number;
  readonly interpolation: 'bilinear' | 'bicubic' | 'nearest' | 'area' | 'lanczos';
  readonly channels: 'gray' | 'rgb' | 'bgr' | 'rgba';
  readonly layout: 'nhwc' | 'nchw' | 'hw';
  readonly scale: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly pad: readonly [number, number, number];
}

/** A declared tensor. A string in `shape` is a free dimension; the same name is the same size within one call. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly (number | string)[];
  readonly preprocessing?: Preprocessing;
}

/** The parts of manifest.json that an app may want; every value but `preprocessing` is checked. */
export interface Manifest {
  readonly model: { readonly path: string; readonly precision: string };
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly files: readonly { path: string; size: number; sha256: string }[];
}

/** ONNX Runtime's own names. In onnxruntime-web they are `wasm` and `webgpu`; it has none of the others. */
export type ProviderName = 'CPUExecutionProvider' | 'WebGpuExecutionProvider' | (string & {});

/** How far a download is, in bytes once decompressed; `loaded` only grows. A file that is kept already has no progress. */
export type OnProgress = (progress: { path: string; loaded: number; total: number }) => void;

export interface OpenOptions {
  /** While the model downloads. */
  onProgress?: OnProgress;
  /** Ends the download: `open` then throws the signal's reason. */
  signal?: AbortSignal;
  /**
   * Whether files are kept in the browser's Cache storage `edgepack`, by URL, for a start without a network. Default: true.
   * Whatever is kept is held against the manifest's SHA-256 again, so a new release replaces it. Node has none.
   */
  cache?: boolean;
  /** Instead of the global `fetch`, to add headers. Not called for Node's `file:` URLs. */
  fetch?: (url: URL, init: RequestInit) => Promise<Response>;
}

export interface SessionOptions {
  /**
   * The imported module: the one that the bundle's runtime/ folder has, `onnxruntime-web/wasm`, or `…/webgpu` for WebGPU.
   * Not the default entry, whose WebGPU answers int8 and float16 models wrong (1.30.0): its WebGPU is passed over.
   * onnxruntime-web has no telemetry to turn off.
   */
  ort: Pick<typeof import('onnxruntime-web'), 'env' | 'InferenceSession' | 'Tensor'>;
  /**
   * Where the module's `.wasm` is: fetched with progress, held against the manifest's SHA-256, kept for the next start. For the
   * first session on a page. Default: onnxruntime-web fetches it from beside its module, unchecked.
   */
  wasm?: string | URL;
  /** Some of the manifest's providers, tried in this order. Default: all, in the manifest's order. */
  providers?: readonly ProviderName[];
  /**
   * WebAssembly threads; 0: onnxruntime-web's default, half the cores and 4 at most. Default: what the manifest says.
   * One thread, with a line on the console, unless the page is cross-origin isolated. onnxruntime-web takes the number
   * once, when it starts: the first session on a page decides, or an `ort.env.wasm.numThreads` set before.
   */
  threads?: number;
  /** While the `.wasm` downloads. */
  onProgress?: OnProgress;
  /** Ends the download: `session` then throws the signal's reason. */
  signal?: AbortSignal;
}

/** What really opened. */
export interface SessionReport {
  provider: ProviderName;
  /** No node runs anywhere but on `provider`. False: it was opened and has run, but may have left nodes to the CPU. */
  proven: boolean;
  /** Why each provider before it could not be had. */
  passed_over: Record<string, string>;
  runtime_version: string;
  model_sha256: string;
  precision: string;
  /** WebAssembly threads. */
  threads: number;
  /** Whether the page is cross-origin isolated; null in Node. */
  isolated: boolean | null;
}

/** A golden case's output against one expectation. Passed: |a − b| ≤ atol + rtol·|b| everywhere, b expected. */
export interface Comparison {
  case: string;
  output: string;
  /** `source`: the source framework's answer. `shipped`: this model's, on the build machine's onnxruntime. */
  from: string;
  /** The largest |a − b|; null if it is not finite, or if dtype or shape differ. */
  max_abs: number | null;
  atol: number;
  rtol: number;
  passed: boolean;
}

/** Ready for JSON. `passed`: there were comparisons, and all passed. */
export interface SelfTest {
  passed: boolean;
  cases: Comparison[];
  report: SessionReport;
}

export const EdgepackBundle: {
  /**
   * Reads manifest.json, then the model, and checks size and SHA-256.
   *
   * @param place the bundle's folder: a URL, full or relative to the page (in a worker to its script, in Node to where it runs).
   * @throws EdgepackError: bundle-not-found, manifest-invalid, schema-unsupported, file-missing, file-corrupt. The last
   *   also where browsers have no `crypto.subtle`: on pages neither from https: nor from localhost.
   */
  open(place: string | URL, options?: OpenOptions): Promise<EdgepackBundle>;
};

export interface EdgepackBundle {
  readonly manifest: Manifest;

  /**
   * Opens the model with the first provider that can be had, and runs it once on zeros if that is not the CPU.
   *
   * @throws EdgepackError: runtime-too-old, provider-unavailable; of `wasm`, file-missing, file-corrupt.
   */
  session(options: SessionOptions): Promise<EdgepackSession>;

  /** Lets go of the model's bytes: no session can be opened any more. Open ones stay open. */
  close(): void;
}

export interface EdgepackSession {
  /**
   * The answers by output name. May be called before an earlier call is done: runs take turns, on all sessions of one
   * `ort`. Leave the inputs' arrays alone until the answer is there. With `ort.env.wasm.proxy` they are moved to the
   * worker and empty afterwards, as onnxruntime-web has it.
   *
   * @throws EdgepackError: input-missing, input-unknown, dtype-mismatch, shape-mismatch.
   */
  run(inputs: Readonly<Record<string, Input>>): Promise<Record<string, TensorData>>;

  /**
   * Runs every golden case of the bundle, which are read now. float16 is compared as float32.
   *
   * @throws EdgepackError: file-missing, file-corrupt, of golden files. A miss is no error but `passed: false`.
   */
  selfTest(): Promise<SelfTest>;

  report(): SessionReport;

  /** Frees the model's memory. */
  close(): Promise<void>;
}
