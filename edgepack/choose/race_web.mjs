// node race_web.mjs REQUEST.json: times several models on onnxruntime-web, one thread, runs interleaved (A B C A B C …).
// Prints {"times": {name: [milliseconds, …]}} or {"error": {"model", "message"}}. The request is written by race_web.py.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const answer = (data) => process.stdout.write(JSON.stringify(data), () => process.exit(0));
console.log = console.error; // stdout is for the answer

const ARRAYS = {
  float32: Float32Array, float16: Uint16Array, float64: Float64Array, bool: Uint8Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
};

const request = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const ort = createRequire(request.package)('onnxruntime-web');
ort.env.wasm.numThreads = 1;

const feeds = {};
for (const { name, dtype, shape, path } of request.inputs) {
  const bytes = readFileSync(path);
  const { buffer } = new Uint8Array(bytes); // a copy of its own, aligned
  feeds[name] = new ort.Tensor(dtype, new ARRAYS[dtype](buffer), shape);
}

const sessions = new Map();
let current;
try {
  for (const { name, path } of request.models) {
    current = name;
    sessions.set(name, await ort.InferenceSession.create(readFileSync(path), request.options));
  }
  const times = Object.fromEntries(request.models.map(({ name }) => [name, []]));
  const inTurn = async (until) => {
    for (let done = 0; until(done); done += 1) {
      for (const [name, session] of sessions) {
        current = name;
        const begun = performance.now();
        await session.run(feeds);
        times[name].push(performance.now() - begun);
      }
    }
  };
  const { warm_ups: warmUps, fewest, rounds, longest_ms: longest } = request;
  await inTurn((done) => done < warmUps);
  for (const list of Object.values(times)) list.length = 0;
  const start = performance.now();
  await inTurn((done) => done < rounds && (done < fewest || performance.now() - start < longest));
  answer({ times });
} catch (error) {
  answer({ error: { model: current, message: String(error?.message ?? error) } });
}
