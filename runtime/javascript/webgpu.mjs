// WebGPU, for edgepack.mjs: loaded where the manifest names it. A bundle for WebAssembly alone does without this file.

import { ARRAYS } from './edgepack.mjs';

/** A session on WebGPU that has run, and whether all of it runs there. `create` opens one, with more of its settings and options. */
export async function provenOn({ Tensor, env }, create, inputs) {
  // Fails, silently, unless every node runs there
  const alone = await create({ 'session.disable_cpu_ep_fallback': '1' }, { logSeverityLevel: 4 }).catch(() => null);
  const session = alone ?? await create();
  try {
    // Only the default build locks the device that it found (jsep/backend-webgpu.ts, 1.30.0).
    const device = Object.getOwnPropertyDescriptor(env.webgpu, 'device');
    if (device?.writable === false) throw new Error('this build is wrong there: import onnxruntime-web/webgpu');
    // Some .ort files open and cannot run (1.30.0). This compiles the shaders, too.
    const feeds = {};
    for (const { name, dtype, shape } of inputs) {
      const sizes = shape.map((size) => (typeof size === 'string' ? 1 : size));
      feeds[name] = new Tensor(dtype, new ARRAYS[dtype](sizes.reduce((product, size) => product * size, 1)), sizes);
    }
    await session.run(feeds);
  } catch (error) {
    await session.release();
    throw error;
  }
  return [session, alone !== null];
}
