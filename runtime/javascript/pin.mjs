// node runtime/javascript/pin.mjs NODE_MODULES/onnxruntime-web: `runtime.files` of the web profiles, for that version.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const [root] = process.argv.slice(2);
// Each module embeds the glue code of its WebAssembly: onnxruntime-web, lib/wasm/wasm-utils-import.ts, embeddedWasmModule.
const BUILDS = {
  'onnxruntime-web/wasm': ['ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm'],
  'onnxruntime-web/webgpu': ['ort.webgpu.bundle.min.mjs', 'ort-wasm-simd-threaded.asyncify.wasm'],
};

const { version } = JSON.parse(readFileSync(`${root}/package.json`));
for (const [build, paths] of Object.entries(BUILDS)) {
  console.log(`# ${build} ${version}\nfiles:`);
  for (const path of paths) {
    const bytes = readFileSync(`${root}/dist/${path}`);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    console.log(`  - {path: ${path}, size: ${bytes.length}, sha256: ${sha256}}`);
  }
}
