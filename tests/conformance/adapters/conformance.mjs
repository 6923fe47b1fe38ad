// Takes the suite through the JavaScript loader, in a page as in Node; see ../suite.py.

const ARRAYS = {
  float32: Float32Array, float16: globalThis.Float16Array ?? Uint16Array, float64: Float64Array, bool: Uint8Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array,
  int64: BigInt64Array, uint64: BigUint64Array,
};

/** The answers to `plan`, by name. `place` makes the place of a bundle out of its folder's name. */
export async function conformance({ EdgepackBundle, EdgepackError }, ort, plan, place) {
  const failure = (error) => {
    if (!(error instanceof EdgepackError)) throw error;
    return { error: { kind: error.kind, message: error.message } };
  };

  async function call(session, inputs) {
    try {
      const outputs = await session.run(Object.fromEntries(inputs.map((x) => [x.name, tensor(x)])));
      return { outputs: Object.entries(outputs).map(stored) };
    } catch (error) {
      return failure(error);
    }
  }

  async function answer({ folder, calls }) {
    let session;
    try {
      const bundle = await EdgepackBundle.open(place(folder));
      session = await bundle.session({ ort });
      const answer = { self_test: await session.selfTest(), report: session.report(), calls: [] };
      for (const inputs of calls) answer.calls.push(await call(session, inputs));
      return answer;
    } catch (error) {
      return failure(error);
    } finally {
      await session?.close();
    }
  }

  const answers = {};
  for (const one of plan) answers[one.name] = await answer(one);
  return answers;
}

function tensor({ dtype, shape, hex }) {
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const whole = bytes.length % ARRAYS[dtype].BYTES_PER_ELEMENT ? new Uint8Array(0) : bytes;
  return { data: new ARRAYS[dtype](whole.buffer), shape, dtype };
}

function stored([name, { data, shape, dtype }]) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { name, dtype, shape, hex: Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('') };
}
