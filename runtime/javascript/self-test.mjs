// node loader/self-test.mjs: the self-test's report as one JSON object. Exit code 0: passed, 1: failed, 2: could not run.

import { createRequire } from 'node:module';

import { EdgepackBundle } from './edgepack.mjs';
import { entry } from './installed.mjs';

console.log = console.error; // stdout is for the report

async function selfTest() {
  const bundle = await EdgepackBundle.open(new URL('..', import.meta.url));
  const session = await bundle.session({ ort: onnxruntime(bundle.manifest.runtime.version) });
  return session.selfTest();
}

function onnxruntime(version) {
  try {
    return createRequire(import.meta.url)(entry(version));
  } catch (error) {
    throw Object.assign(error, { kind: 'provider-unavailable' });
  }
}

function finish(code, answer) {
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(code)); // or its threads keep Node running
}

try {
  const answer = await selfTest();
  finish(answer.passed ? 0 : 1, answer);
} catch (error) {
  finish(2, { error: { kind: typeof error.kind === 'string' ? error.kind : 'runtime-failed', message: error.message } });
}
