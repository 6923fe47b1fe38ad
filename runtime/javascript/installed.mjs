// onnxruntime-web where npm put it, for the programs in this folder that run in Node.

import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);

/** Its entry for Node: above this bundle, in NODE_PATH, or in or above the folder EDGEPACK_NODE_MODULES. */
export function entry(version) {
  const paths = [fileURLToPath(new URL('.', import.meta.url)), process.env.EDGEPACK_NODE_MODULES ?? '.'];
  try {
    return require.resolve('onnxruntime-web', { paths });
  } catch {
    throw new Error(`onnxruntime-web is not to be found: npm install onnxruntime-web@${version}`);
  }
}

/** The folder with its modules and their WebAssembly. */
export const dist = (version) => dirname(entry(version));
