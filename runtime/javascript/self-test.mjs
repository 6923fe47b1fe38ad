// node loader/self-test.mjs: the self-test's report as one JSON object. Exit code 0: passed, 1: failed, 2: could not run.
// onnxruntime-web is looked for above this bundle, in NODE_PATH, and in or above the folder EDGEPACK_NODE_MODULES.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

import { EdgepackBundle, EdgepackError } from './edgepack.mjs';

console.log = console.error; // stdout is for the report

async function selfTest() {
  const bundle = await EdgepackBundle.open(new URL('..', import.meta.url));
  const session = await bundle.session({ ort: onnxruntime(bundle.manifest.runtime.min_version) });
  return session.selfTest();
}

function onnxruntime(version) {
  const require = createRequire(import.meta.url);
  const paths = [fileURLToPath(new URL('.', import.meta.url)), process.env.EDGEPACK_NODE_MODULES ?? '.'];
  try {
    return require(require.resolve('onnxruntime-web', { paths }));
  } catch (error) {
    const message = `onnxruntime-web is not to be found: npm install onnxruntime-web@${version}`;
    throw new EdgepackError('provider-unavailable', message, error);
  }
}

function finish(code, answer) {
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(code)); // or its threads keep Node running
}

try {
  const answer = await selfTest();
  finish(answer.passed ? 0 : 1, answer);
} catch (error) {
  finish(2, { error: { kind: error.kind ?? 'runtime-failed', message: error.message } });
}
