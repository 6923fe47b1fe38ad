// Runs the snippets that conftest.Node sends, one a line. In a snippet: `ort`, `folder`, the loader's exports,
// `open(options)`, and `session(options)`.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

console.log = console.error; // stdout is for the answers
const ort = createRequire(`${process.argv[2]}/`)('onnxruntime-web');
const AsyncFunction = (async () => {}).constructor;

async function answer(folder, snippet) {
  const loader = await import(`${folder}/loader/edgepack.mjs`);
  const open = (options) => loader.EdgepackBundle.open(folder, options);
  const session = async (options) => (await open()).session({ ort, ...options });
  const scope = { ...loader, ort, folder, open, session };
  try {
    return { value: await new AsyncFunction(...Object.keys(scope), snippet)(...Object.values(scope)) };
  } catch (error) {
    const kind = error instanceof loader.EdgepackError ? error.kind : error.name;
    return { error: { kind, message: error.message } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { folder, snippet } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await answer(folder, snippet))}\n`);
}
process.exit(); // threads keep Node running
