// Files: fetched, checked, kept in the browser's cache for the next start.

import { fail } from './manifest.mjs';

export const locate = (place) => new URL(place, globalThis.location?.href ?? `file://${process.cwd()}/`);

/** What `accept` makes of the answer at `url`: of an earlier one if that will do; for the `newest`, without a network. */
export async function read(url, accept, options) {
  const { newest, kind = 'file-missing', fetch = globalThis.fetch, cache = true, onProgress, signal } = options;
  const store = cache && await globalThis.caches?.open('edgepack').catch(() => null);
  const earlier = store && await store.match(url);
  const kept = () => earlier && accept(earlier).catch(() => null);
  let value = newest ? null : await kept();
  if (value) return value;
  try {
    const response = url.protocol === 'file:'
      ? new Response(await process.getBuiltinModule('fs/promises').readFile(url))
      : await fetch(url, { signal, cache: 'no-cache' });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    value = await accept(response, onProgress);
  } catch (error) {
    signal?.throwIfAborted();
    value = error instanceof TypeError && await kept();
    if (value) return value;
    throw error.kind ? error : fail(kind, `cannot read ${url}: ${error.message}`, error);
  }
  if (store) store.put(url, new Response(newest ? JSON.stringify(value) : value)).catch(() => {});
  return value;
}

/** Takes an answer's bytes if size and SHA-256 are as listed. */
export const asListed = ({ path, size, sha256 }) => async (response, onProgress) => {
  const corrupt = (what) => fail('file-corrupt', `${path} ${what}`);
  const bytes = new Uint8Array(size);
  let loaded = 0;
  const write = (chunk) => {
    if (loaded + chunk.length > size) corrupt(`has more than the ${size} bytes listed`);
    bytes.set(chunk, loaded);
    loaded += chunk.length;
    onProgress?.({ path, loaded, total: size });
  };
  await response.body.pipeTo(new WritableStream({ write }));
  if (!globalThis.crypto?.subtle) corrupt('can be checked on https: and localhost only');
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (loaded < size || hex !== sha256) corrupt(`has ${loaded} bytes, SHA-256 ${hex}; listed are ${size}, ${sha256}`);
  return bytes;
};
