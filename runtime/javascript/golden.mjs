// The self-test: golden cases through a session, held against what is expected. Loaded when it is asked for.

import { ARRAYS, fail, volume } from './manifest.mjs';

/** Passed or not, case by case. `run` answers inputs, `load` gives a file's bytes. */
export async function judge(golden, run, load) {
  const tensor = async ({ dtype, shape, path }) => {
    const { buffer, length } = await load(path);
    const bytes = volume(shape) * ARRAYS[dtype].BYTES_PER_ELEMENT;
    if (length !== bytes) fail('manifest-invalid', `manifest.json: size of ${path} is ${length}, expected ${bytes}`);
    return { data: new ARRAYS[dtype](buffer), shape, dtype };
  };
  const cases = [];
  for (const { name, inputs, expect } of golden) {
    const values = {};
    for (const input of inputs) values[input.name] = await tensor(input);
    const answers = await run(values);
    for (const wanted of expect) {
      const { name: output, from, atol, rtol } = wanted;
      const outcome = compare(answers[output], await tensor(wanted), wanted);
      cases.push({ case: name, output, from, atol, rtol, ...outcome });
    }
  }
  return { passed: cases.length > 0 && cases.every(({ passed }) => passed), cases };
}

const describe = (tensor) => tensor && `${tensor.dtype} [${tensor.shape.join(', ')}]`;

function compare(got, wanted, { atol, rtol }) {
  if (describe(got) !== describe(wanted)) {
    return { max_abs: null, passed: false, why: `${describe(got)}, expected ${describe(wanted)}` };
  }
  const [a, b] = [got, wanted].map(numbers);
  let [worst, passed] = [0, true];
  for (let i = 0; i < b.length; i += 1) {
    if (a[i] === b[i] || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) continue;
    const distance = Math.abs(Number(a[i] - b[i])); // BigInts are subtracted exactly
    worst = Math.max(worst, distance);
    passed &&= Number.isFinite(distance) && distance <= atol + rtol * Math.abs(Number(b[i]));
  }
  return { max_abs: Number.isFinite(worst) ? worst : null, passed };
}

/** float16 is raw bits where the engine has no Float16Array. */
const numbers = ({ data, dtype }) => (dtype === 'float16' && data instanceof Uint16Array ? Array.from(data, fromHalf) : data);

/** The number in 16 bits of IEEE 754 binary16. */
function fromHalf(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}
