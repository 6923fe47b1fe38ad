// node demo/serve.mjs [PORT]: this bundle on http://localhost:8080/demo/, with the headers that its README.md asks for.
// onnxruntime-web comes from runtime/ (see loader/self-host.mjs), or from where npm put it.

import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { dist } from '../loader/installed.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Content-Security-Policy': "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    + "style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-cache',
  Vary: 'Accept-Encoding',
};
const TYPES = {
  '.html': 'text/html; charset=utf-8', '.css': 'text/css; charset=utf-8', '.json': 'application/json', '.svg': 'image/svg+xml',
  '.mjs': 'text/javascript', '.js': 'text/javascript', '.wasm': 'application/wasm', '.md': 'text/plain; charset=utf-8',
};

const { files, runtime } = JSON.parse(await readFile(join(ROOT, 'manifest.json')));
const hosted = await stat(join(ROOT, 'runtime')).catch(() => null);
const modules = hosted ? join(ROOT, 'runtime') : dist(runtime.version);
/** Only what manifest.json lists can be had. */
const served = new Map([
  ['manifest.json', join(ROOT, 'manifest.json')],
  ...files.map(({ path }) => [path, join(ROOT, path)]),
  ...runtime.files.map(({ path }) => [`runtime/${path}`, join(modules, path)]),
]);

/** The file in the best form that the browser takes. */
async function choose(file, accepted = '') {
  for (const [encoding, suffix] of [['br', '.br'], ['gzip', '.gz']]) {
    const packed = accepted.includes(encoding) && await stat(file + suffix).catch(() => null);
    if (packed) return { path: file + suffix, length: packed.size, encoding: { 'Content-Encoding': encoding } };
  }
  return { path: file, length: (await stat(file)).size, encoding: {} };
}

async function answer(request, response) {
  const { pathname } = new URL(request.url, 'http://localhost');
  if (pathname === '/') return response.writeHead(302, { Location: '/demo/' }).end();
  const name = decodeURIComponent(pathname.slice(1)).replace(/(^|\/)$/, '$1index.html');
  const file = served.get(name);
  if (!file || !['GET', 'HEAD'].includes(request.method)) return response.writeHead(404, HEADERS).end();
  const { path, length, encoding } = await choose(file, request.headers['accept-encoding']);
  const type = TYPES[extname(name)] ?? 'application/octet-stream';
  response.writeHead(200, { ...HEADERS, ...encoding, 'Content-Type': type, 'Content-Length': length });
  if (request.method === 'HEAD') return response.end();
  return createReadStream(path).pipe(response);
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.writeHead(400, HEADERS).end());
});
server.listen(Number(process.argv[2] ?? 8080), '127.0.0.1', () => {
  console.log(`http://localhost:${server.address().port}/demo/ (Ctrl-C ends it)`);
});
