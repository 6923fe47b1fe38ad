// node loader/self-host.mjs FOLDER [--compress]: this bundle as a folder to serve, with the files of onnxruntime-web that it
// runs on in FOLDER/runtime. Each file is held against manifest.json. --compress: .br and .gz beside what gains by it.

import { createHash } from 'node:crypto';
import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';

import { parse } from './edgepack.mjs';
import { dist } from './installed.mjs';

const BUNDLE = fileURLToPath(new URL('..', import.meta.url));
const USAGE = 'usage: node loader/self-host.mjs FOLDER [--compress]';

async function selfHost(target, compress) {
  const json = await readFile(join(BUNDLE, 'manifest.json'));
  const { files, runtime } = parse(json.toString());
  const scratch = `${target}.part`;
  if (await exists(target) && !await exists(join(target, 'manifest.json'))) {
    throw new Error(`${target} is there and no earlier copy of a bundle: name another folder, or remove it`);
  }
  await rm(scratch, { recursive: true, force: true });
  try {
    await put(scratch, 'manifest.json', json, compress);
    for (const file of files) await copy(BUNDLE, scratch, file, file.path, compress);
    const from = dist(runtime.version);
    for (const file of runtime.files) await copy(from, scratch, file, `runtime/${file.path}`, compress);
    await rm(target, { recursive: true, force: true });
    await rename(scratch, target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function copy(from, target, { path, size, sha256 }, place, compress) {
  const source = join(from, path);
  const bytes = await readFile(source);
  const digest = createHash('sha256').update(bytes).digest('hex');
  if (bytes.length !== size || digest !== sha256) {
    throw new Error(`${source} has ${bytes.length} bytes, SHA-256 ${digest}; manifest.json lists ${size}, ${sha256}. `
      + 'Install the very version that package.json names, or build the bundle again.');
  }
  await put(target, place, bytes, compress);
}

async function put(target, place, bytes, compress) {
  const path = join(target, place);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, bytes);
  if (!compress) return;
  // The largest window: the WebAssembly is 14 MB long.
  const params = { [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  const packed = { br: await promisify(brotliCompress)(bytes, { params }), gz: await promisify(gzip)(bytes, { level: 9 }) };
  for (const [suffix, small] of Object.entries(packed)) {
    if (small.length < bytes.length * 0.95) await writeFile(`${path}.${suffix}`, small);
  }
}

const exists = (path) => access(path).then(() => true, () => false);

const [folder, ...flags] = process.argv.slice(2);
if (!folder || folder.startsWith('-') || flags.some((flag) => flag !== '--compress')) {
  console.error(USAGE);
  process.exitCode = 2;
} else {
  await selfHost(resolve(folder), flags.length > 0).catch((error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  });
}
