// What browser.visit calls in the page. Tensors travel as {dtype, shape, base64}.

import { ARRAYS, EdgepackBundle, EdgepackError } from '/bundle/loader/edgepack.mjs';

/** The self-test's report, or {error}, and the answers to each of `feeds`, all asked for at once. */
export async function visit({ build, options, feeds }) {
  const ort = await import(`/ort/${build}`);
  try {
    const bundle = await EdgepackBundle.open('/bundle');
    const session = await bundle.session({ ort, ...options });
    const outcome = await session.selfTest();
    const answers = await Promise.all(feeds.map((inputs) => session.run(each(inputs, decode))));
    await session.close();
    return { outcome, answers: answers.map((outputs) => each(outputs, encode)) };
  } catch (error) {
    if (!(error instanceof EdgepackError)) throw error;
    return { outcome: { error: { kind: error.kind, message: error.message } }, answers: [] };
  }
}

const each = (tensors, change) => Object.fromEntries(Object.entries(tensors).map(([name, x]) => [name, change(x)]));

function decode({ dtype, shape, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return { data: new ARRAYS[dtype](bytes.buffer), shape };
}

function encode({ data, shape, dtype }) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const characters = Array.from(bytes, (byte) => String.fromCharCode(byte));
  return { dtype, shape, base64: btoa(characters.join('')) };
}
