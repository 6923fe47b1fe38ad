// How an image becomes an input: an input's `preprocessing` in manifest.json, done as Pillow does it.

import { ARRAYS } from '../loader/edgepack.mjs';

const ORDER = { rgb: [0, 1, 2], bgr: [2, 1, 0], rgba: [0, 1, 2, 3] };
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
/** Pillow's filters: how far they reach, and their weight at |x|. */
const FILTERS = {
  area: [0.5, () => 1], // of two pixels just that far, the later one counts
  bilinear: [1, (x) => 1 - x],
  bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2)],
  lanczos: [3, (x) => sinc(x) * sinc(x / 3)],
};

/** The pixels of a file, 8 bits, red, green, blue, alpha. */
export async function decode(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

/** The input that `spec` of the manifest declares, of ImageData. */
export function preprocess(pixels, { dtype, shape, preprocessing: way }) {
  if (dtype === 'float16' && ARRAYS.float16 === Uint16Array) throw new Error('this browser has no Float16Array');
  const image = frame(resize(inOrder(pixels, way.channels), way), way);
  const [area, channels] = [way.height * way.width, way.mean.length];
  const data = new ARRAYS[dtype](area * channels);
  const round = dtype.startsWith('float') ? (x) => x : Math.round;
  for (let i = 0; i < image.data.length; i += 1) {
    const channel = i % channels;
    const value = round((image.data[i] * way.scale - way.mean[channel]) / way.std[channel]);
    data[way.layout === 'nchw' ? channel * area + (i - channel) / channels : i] = value;
  }
  return { data, shape: shape.map((size) => (typeof size === 'string' ? 1 : size)), dtype };
}

/** The channels in the input's order: { data, width, height, channels }. */
function inOrder({ data: rgba, width, height }, name) {
  const order = ORDER[name];
  const channels = name === 'gray' ? 1 : order.length;
  const data = new Uint8Array(width * height * channels);
  for (let i = 0; i < width * height; i += 1) {
    const [r, g, b] = rgba.subarray(i * 4, i * 4 + 3);
    if (name === 'gray') data[i] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
    else for (let c = 0; c < channels; c += 1) data[i * channels + c] = rgba[i * 4 + order[c]];
  }
  return { data, width, height, channels };
}

/** Both sides as `resize` says; what is cut off or padded comes after. */
function scaledSize({ width, height }, way) {
  if (way.resize === 'stretch') return [way.width, way.height];
  if (way.shorter_side) {
    const [short, s] = [Math.min(width, height), way.shorter_side];
    return [width, height].map((side) => (side === short ? s : Math.floor((s * side) / short)));
  }
  const ratios = [way.width / width, way.height / height];
  const r = way.resize === 'crop' ? Math.max(...ratios) : Math.min(...ratios);
  return [width, height].map((side) => Math.max(1, halfToEven(side * r)));
}

function halfToEven(x) {
  const whole = Math.floor(x);
  return x - whole === 0.5 ? whole + (whole % 2) : Math.round(x);
}

function resize(image, way) {
  const [width, height] = scaledSize(image, way);
  // As Pillow 13 does; what is rounded in between is then another pixel's.
  const heightFirst = height < image.height && image.height - height > 2 * (image.width - width);
  const first = along(image, heightFirst ? height : width, !heightFirst, way.interpolation);
  return along(first, heightFirst ? width : height, heightFirst, way.interpolation);
}

/** The image with its width, or else its height, of another length; rounded to 8 bits. */
function along(image, scaled, isWidth, interpolation) {
  const { channels } = image;
  const [size, lines] = isWidth ? [image.width, image.height] : [image.height, image.width];
  if (size === scaled) return image;
  const step = (isWidth ? 1 : image.width) * channels;
  const [from, to] = isWidth ? [size * channels, scaled * channels] : [channels, channels]; // from line to line
  const data = new Uint8ClampedArray(scaled * lines * channels);
  for (let i = 0; i < scaled; i += 1) {
    const [first, weights] = weightsOf(i, size, scaled, interpolation);
    for (let line = 0; line < lines; line += 1) {
      for (let c = 0; c < channels; c += 1) {
        let sum = 0;
        for (let k = 0; k < weights.length; k += 1) sum += weights[k] * image.data[line * from + (first + k) * step + c];
        data[line * to + i * step + c] = Math.floor(sum + 0.5);
      }
    }
  }
  const [width, height] = isWidth ? [scaled, image.height] : [image.width, scaled];
  return { data, width, height, channels };
}

/** The first source pixel for pixel `i`, and the weights from there on. */
function weightsOf(i, size, scaled, interpolation) {
  const t = size / scaled;
  const centre = (i + 0.5) * t;
  if (interpolation === 'nearest') return [Math.floor(centre), [1]];
  const [reach, filter] = FILTERS[interpolation];
  const w = Math.max(t, 1);
  const first = Math.max(0, Math.floor(centre - reach * w + 0.5));
  const end = Math.min(size, Math.floor(centre + reach * w + 0.5));
  const raw = [];
  for (let k = first; k < end; k += 1) {
    const x = (k + 0.5 - centre) / w;
    raw.push(x > -reach && x <= reach ? filter(Math.abs(x)) : 0);
  }
  const sum = raw.reduce((total, x) => total + x, 0);
  return [first, raw.map((x) => x / sum)];
}

/** The middle of a cropped image, or a letterboxed one on its ground. */
function frame(image, way) {
  if (way.resize === 'stretch') return image;
  const { channels } = image;
  const crop = way.resize === 'crop';
  if (crop && (image.width < way.width || image.height < way.height)) {
    throw new Error(`scaled to ${image.width} × ${image.height}, the image is smaller than what is to be cut out`);
  }
  const offset = (scaled, wanted) => Math.floor(crop ? (scaled - wanted + 1) / 2 : (wanted - scaled) / 2);
  const [left, top] = [offset(image.width, way.width), offset(image.height, way.height)];
  const [r, g, b] = way.pad;
  const ground = { gray: [Math.round((r + g + b) / 3)], rgb: [r, g, b], bgr: [b, g, r], rgba: [r, g, b, 255] }[way.channels];
  const data = new Uint8Array(way.width * way.height * channels);
  for (let i = 0; i < data.length; i += 1) {
    const pixel = Math.floor(i / channels);
    const [x, y] = [pixel % way.width, Math.floor(pixel / way.width)];
    const [sx, sy] = crop ? [x + left, y + top] : [x - left, y - top];
    const inside = sx >= 0 && sy >= 0 && sx < image.width && sy < image.height;
    data[i] = inside ? image.data[(sy * image.width + sx) * channels + (i % channels)] : ground[i % channels];
  }
  return { data, width: way.width, height: way.height, channels };
}
