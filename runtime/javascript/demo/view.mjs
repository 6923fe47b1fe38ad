// Tensors, reports and figures as elements of the page.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const SHOWN = 8; // values of an answer
const PLAIN = new Intl.NumberFormat('en', { maximumSignificantDigits: 4 });
const unit = (name) => new Intl.NumberFormat('en', { style: 'unit', unit: name, maximumFractionDigits: 1 });
const [kilo, mega] = [unit('kilobyte'), unit('megabyte')];

export const fileSize = (count) => (count < 1e6 ? kilo.format(count / 1e3) : mega.format(count / 1e6));
export const milliseconds = (ms) => `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;

function number(value) {
  if (typeof value === 'bigint' || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e7) ? value.toExponential(2) : PLAIN.format(value);
}

/** A tensor's name, form, and a picture or its first values. */
export function tensorView(name, tensor) {
  const picture = drawn(tensor);
  const first = Array.from(tensor.data.slice(0, 12), number).join(', ');
  const values = element('p', { className: 'values digits', textContent: tensor.data.length > 12 ? `${first}, …` : first });
  return element('div', { className: 'tensor' }, heading(name, tensor), picture ?? values);
}

/** A tensor's name, form, and its largest values. */
export function answerView(name, tensor) {
  const { data } = tensor;
  const picture = drawn(tensor);
  if (picture) return element('div', { className: 'tensor' }, heading(name, tensor), picture);
  const ranked = Array.from(data, (value, index) => ({ value: Number(value), index })).sort((a, b) => b.value - a.value);
  const most = Math.max(...ranked.slice(0, SHOWN).map(({ value }) => Math.abs(value)), Number.MIN_VALUE);
  const scale = most <= 1 && ranked.at(-1)?.value >= 0 ? 1 : most; // of probabilities: 1
  const bars = ranked.slice(0, SHOWN).map(({ value, index }) => {
    const fill = element('span', { className: 'fill' });
    fill.style.width = `${Math.max(0, Math.min(1, value / scale)) * 100}%`;
    const track = element('span', { className: 'track', ariaHidden: 'true' }, fill);
    const [label, figure] = [`#${index}`, number(value)].map((text) => element('span', { className: 'digits', textContent: text }));
    return element('li', {}, label, track, figure);
  });
  const rest = element('p', { className: 'note', textContent: data.length > SHOWN ? `the largest ${SHOWN} of ${data.length}` : '' });
  return element('div', { className: 'tensor' }, heading(name, tensor), element('ol', { className: 'bars' }, ...bars), rest);
}

const heading = (name, { dtype, shape }) => element('h3', {}, name, element('code', { textContent: `${dtype} [${shape.join(', ')}]` }));

/** A canvas, if the tensor has the form of an image. */
function drawn({ data, shape }) {
  const sides = shape.filter((size, i) => size !== 1 || i > shape.length - 2 || shape.length <= 2);
  const form = layout(shape.length > 4 ? [] : shape[0] === 1 ? shape.slice(1) : shape) ?? layout(sides);
  if (!form) return null;
  const { width, height, channels, planar } = form;
  const canvas = element('canvas', { width, height, role: 'img', ariaLabel: `the values as a picture, ${width} by ${height}` });
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(width, height);
  let [least, most] = [Infinity, -Infinity];
  for (const value of data) [least, most] = [Math.min(least, Number(value)), Math.max(most, Number(value))];
  const level = (value) => ((Number(value) - least) / (most - least || 1)) * 255;
  for (let i = 0; i < width * height; i += 1) {
    for (let c = 0; c < 3; c += 1) {
      const channel = Math.min(c, channels - 1);
      pixels.data[i * 4 + c] = level(data[planar ? channel * width * height + i : i * channels + channel]);
    }
    pixels.data[i * 4 + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function layout(shape) {
  const isColour = (size) => size === 1 || size === 3 || size === 4;
  const isSide = (size) => size >= 6 && size <= 4096;
  const [a, b, c] = shape;
  if (shape.length === 3 && isSide(a) && isSide(b) && isColour(c)) return { height: a, width: b, channels: c, planar: false };
  if (shape.length === 3 && isColour(a) && isSide(b) && isSide(c)) return { height: b, width: c, channels: a, planar: true };
  if (shape.length === 2 && isSide(a) && isSide(b)) return { height: a, width: b, channels: 1, planar: true };
  return null;
}

export function reportView(report, model, adapter) {
  const facts = {
    Provider: report.proven ? report.provider : `${report.provider}, some nodes perhaps on the CPU`,
    ...(adapter && { GPU: adapter }),
    ...Object.fromEntries(Object.entries(report.passed_over).map(([name, why]) => [`Not ${name}`, why])),
    Threads: report.isolated ? report.threads : `${report.threads}: the page is not cross-origin isolated`,
    'onnxruntime-web': report.runtime_version,
    Precision: report.precision,
    Model: `${model.path}, ${fileSize(model.size)}`,
    'SHA-256': `${report.model_sha256.slice(0, 16)}…`,
  };
  return Object.entries(facts).flatMap(([name, what]) => [element('dt', { textContent: name }), element('dd', { textContent: what })]);
}

export function caseView({ case: name, output, from, max_abs, atol, rtol, passed }) {
  const cells = [name, output, from, max_abs === null ? 'not finite, or of another form' : number(max_abs), `${number(atol)} + ${number(rtol)}·|b|`];
  const verdict = element('span', { className: `badge ${passed ? 'good' : 'bad'}`, textContent: passed ? 'passed' : 'failed' });
  const rest = cells.map((text, i) => element('td', { textContent: text, className: i > 2 ? 'digits' : '' }));
  return element('tr', {}, element('td', {}, verdict), ...rest);
}
