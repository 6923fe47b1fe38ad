// The page: loads the bundle it lies in, runs it on golden, random or picked input, times it, and shows its self-test.

import { ARRAYS, EdgepackBundle } from '../loader/edgepack.mjs';
import { decode, preprocess } from './image.mjs';
import { $, answerView, caseView, fileSize, milliseconds, reportView, tensorView } from './view.mjs';

const ROOT = new URL('../', import.meta.url);
const wanted = new URLSearchParams(location.search);

function onProgress({ path, loaded, total }) {
  $('progress').value = loaded / total;
  $('loaded').textContent = loaded < total ? `${path}: ${fileSize(loaded)} of ${fileSize(total)}` : `${path}: starting`;
}

async function load() {
  const bundle = await EdgepackBundle.open(ROOT, { onProgress });
  const [module, wasm] = bundle.manifest.runtime.files.map(({ path }) => new URL(`runtime/${path}`, ROOT));
  const ort = await import(module); // index.html holds its integrity
  const session = await bundle.session({
    ort, wasm, onProgress,
    threads: Number(wanted.get('threads')) || Math.min(4, navigator.hardwareConcurrency),
    ...(wanted.get('provider') && { providers: [wanted.get('provider')] }),
  });
  return { bundle, session, ort };
}

/** Values of the declared dtypes; a free dimension is 1. */
function random({ dtype, shape: declared }) {
  const shape = declared.map((size) => (typeof size === 'string' ? 1 : size));
  const data = new ARRAYS[dtype](shape.reduce((product, size) => product * size, 1));
  const value = { int64: () => BigInt(Math.floor(Math.random() * 10)), bool: () => Math.floor(Math.random() * 2) };
  value.uint64 = value.int64;
  const draw = value[dtype] ?? (dtype.startsWith('float') ? Math.random : () => Math.floor(Math.random() * 10));
  return { data: data.map(draw), shape, dtype };
}

async function golden({ files }, { inputs }) {
  const values = {};
  for (const { name, dtype, shape, path } of inputs) {
    const response = await fetch(new URL(path, ROOT));
    values[name] = { data: new ARRAYS[dtype](await response.arrayBuffer()), shape, dtype };
  }
  return values;
}

function showInputs({ bundle: { manifest }, session }) {
  const pictured = manifest.inputs.find(({ preprocessing }) => preprocessing);
  const sources = [
    ...manifest.golden.map((each) => [`Golden case ${each.name}`, () => golden(manifest, each)]),
    ['Random', async () => Object.fromEntries(manifest.inputs.map((spec) => [spec.name, random(spec)]))],
  ];
  const state = { values: null };

  async function use(values) {
    state.values = values;
    const start = performance.now();
    const answers = await session.run(values);
    if ($('first').textContent === '–') $('first').textContent = milliseconds(performance.now() - start);
    $('given').replaceChildren(...manifest.inputs.map(({ name }) => tensorView(name, values[name])));
    $('answers').replaceChildren(...manifest.outputs.map(({ name }) => answerView(name, answers[name])));
  }

  async function usePicture(file) {
    const rest = manifest.inputs.filter((spec) => spec !== pictured).map((spec) => [spec.name, random(spec)]);
    await use({ ...Object.fromEntries(rest), [pictured.name]: preprocess(await decode(file), pictured) });
  }

  $('source').append(...sources.map(([label], i) => new Option(label, i)));
  $('source').onchange = () => guarded(async () => use(await sources[$('source').value][1]()));
  $('picker').hidden = !pictured;
  $('image').onchange = () => guarded(async () => $('image').files[0] && usePicture($('image').files[0]));
  return { state, start: async () => use(await sources[0][1]()) };
}

/** Times `runs` runs, or as many as there is time for. */
async function measure(session, values, runs, limit_ms) {
  const times = [];
  const end = performance.now() + limit_ms;
  $('measure').disabled = true;
  for (let start = performance.now(); times.length < runs && start < end; start = performance.now()) {
    await session.run(values);
    times.push(performance.now() - start);
    if (times.length % 10 === 0) await new Promise(requestAnimationFrame); // the page stays alive
  }
  times.sort((a, b) => a - b);
  const middle = times.length / 2;
  const median = (times[Math.ceil(middle) - 1] + times[Math.floor(middle)]) / 2;
  $('timed').textContent = `Median of ${times.length} run${times.length > 1 ? 's' : ''}`;
  $('median').textContent = milliseconds(median);
  $('spread').textContent = `${milliseconds(times[0])} – ${milliseconds(times.at(-1))}`;
  $('measure').disabled = false;
}

async function selfTest(session) {
  $('again').disabled = true;
  const { passed, cases } = await session.selfTest();
  const good = cases.filter((each) => each.passed).length;
  $('summary').textContent = cases.length
    ? `${good} of ${cases.length} comparisons passed: with what this model answered where it was built (shipped), and with the original (source).`
    : 'This bundle has no golden cases.';
  $('cases').replaceChildren(...cases.map(caseView));
  Object.assign($('verdict'), { className: `badge ${passed ? 'good' : 'bad'}`, textContent: `Self-test ${passed ? 'passed' : 'failed'}` });
  $('again').disabled = false;
}

/** Another provider or number of threads is another start: the page loads again. */
function offerSettings({ bundle, session }) {
  const offer = (name, values, current) => {
    $(name).append(...values.map(([label, value]) => new Option(label, value, false, value === current)));
    $(name).onchange = () => {
      wanted.set(name, $(name).value);
      location.search = wanted;
    };
  };
  const providers = bundle.manifest.runtime.providers.map(({ name }) => [name.replace('ExecutionProvider', ''), name]);
  offer('provider', [['first that works', ''], ...providers], wanted.get('provider') ?? '');
  offer('threads', ['1', '2', '4', '8'].map((n) => [n, n]), String(session.report().threads));
}

/** The page's own files, once, for a start without a network. */
async function keepPage() {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  await serviceWorker.register(new URL('sw.js', ROOT)); // a worker's script is within its scope, too
  const cache = await caches.open('edgepack-demo');
  const names = performance.getEntriesByType('resource').map(({ name }) => name.split('?')[0]);
  const own = names.filter((name) => name.startsWith(ROOT.href) && /\.(mjs|css|svg)$/.test(name));
  const page = location.origin + location.pathname;
  for (const name of new Set([page, ...own])) await cache.add(new Request(name, { cache: 'force-cache' }));
  document.documentElement.dataset.kept = 'yes';
}

function failed(error) {
  $('loading').hidden = true;
  $('failure').hidden = false;
  $('kind').textContent = error.kind ?? error.name;
  $('message').textContent = error.message;
  Object.assign($('verdict'), { className: 'badge bad', textContent: 'Failed' });
  console.error(error);
}

const guarded = (work) => work().catch(failed);

await guarded(async () => {
  const started = performance.now();
  const loaded = await load();
  const { bundle, session, ort } = loaded;
  const ready = performance.now();
  const { vendor, architecture } = ort.env.webgpu?.device?.adapterInfo ?? {};
  const model = bundle.manifest.files.find(({ path }) => path === bundle.manifest.model.path);
  const inputs = showInputs(loaded);
  await inputs.start();
  $('load').textContent = milliseconds(ready - started);
  $('report').replaceChildren(...reportView(session.report(), model, [vendor, architecture].filter(Boolean).join(' ')));
  offerSettings(loaded);
  const runs = () => Math.max(1, Math.round($('runs').valueAsNumber || 1));
  $('measure').onclick = () => guarded(() => measure(session, inputs.state.values, runs(), 30_000));
  $('again').onclick = () => guarded(() => selfTest(session));
  $('loading').hidden = true;
  for (const id of ['input', 'output', 'latency', 'engine', 'self-test']) $(id).hidden = false;
  await selfTest(session);
  await measure(session, inputs.state.values, runs(), 2000);
  await keepPage();
});
document.documentElement.dataset.ready = 'yes';
