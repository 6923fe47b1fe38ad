// Keeps the page itself for a start without a network: the newest where there is one. The model and onnxruntime-web's WebAssembly
// are kept by the loader, in the cache `edgepack`.

const CACHE = 'edgepack-demo';

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method === 'GET' && new URL(request.url).origin === self.location.origin) event.respondWith(newest(request));
});

async function newest(request) {
  try {
    const response = await fetch(request);
    // Those without a destination are the loader's.
    if (response.ok && request.destination) await (await caches.open(CACHE)).put(request.url, response.clone());
    return response;
  } catch (error) {
    const kept = await caches.match(request.url, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}
