// Bitmaps as inputs. A model that takes no image does without this file.
package io.edgepack

import ai.onnxruntime.platform.Fp16Conversions.floatToFp16
import android.graphics.Bitmap
import kotlin.math.*
import org.json.JSONObject

private val SHIFTS = mapOf("rgb" to listOf(16, 8, 0), "bgr" to listOf(0, 8, 16), "rgba" to listOf(16, 8, 0, 24))

/**
 * [bitmap] as the input of that name, by default the first, in the manifest's preprocessing (edgepack's runtime/README.md):
 * resized as Pillow does where the model was calibrated, within 1 of 255. Not for Bitmap.Config.HARDWARE: copy it first.
 * @throws EdgepackError manifest-invalid: the manifest does not tell how; dtype-mismatch: an input of wide integers.
 */
fun EdgepackBundle.image(bitmap: Bitmap, name: String? = null): Tensor {
  val spec = manifest.all<JSONObject>("inputs").first { name == null || it["name"] == name }
  val way: JSONObject = spec.of("preprocessing")
  val (mean, std) = listOf("mean", "std").map { key -> way.all<Number>(key).map { it.toDouble() } }
  val scale = way.of<Number>("scale").toDouble()
  val height: Int = way.of("height")
  val width: Int = way.of("width")
  val n = mean.size
  val shifts = SHIFTS[way.of("channels")]
  fun channel(pixel: Int, c: Int) = if (shifts != null) pixel shr shifts[c] and 255 else
    19595 * (pixel shr 16 and 255) + 38470 * (pixel shr 8 and 255) + 7471 * (pixel and 255) + 32768 shr 16

  val (wide, high) = way.scaled(bitmap.width, bitmap.height, width, height)
  val filter = FILTERS[way.of("interpolation")]
  val across = List(width) { filter.taps(it + (wide - width + 1).floorDiv(2), bitmap.width, wide) }
  val down = List(height) { filter.taps(it + (high - height + 1).floorDiv(2), bitmap.height, high) }
  // As Pillow 13 does; what is rounded in between is then another pixel's.
  val heightFirst = high < bitmap.height && bitmap.height - high > 2 * (bitmap.width - wide)
  val first = if (heightFirst) down else across
  val line = IntArray(if (heightFirst) bitmap.height else bitmap.width)
  val between = Array(if (heightFirst) bitmap.width else bitmap.height) { i ->
    if (heightFirst) bitmap.getPixels(line, 0, 1, i, 0, 1, line.size) else bitmap.getPixels(line, 0, line.size, 0, i, line.size, 1)
    IntArray(first.size * n) { first[it / n].sum { k -> channel(line[k], it % n) } }
  }

  val pad = way.all<Int>("pad").fold(255) { argb, level -> argb shl 8 or level }
  val layout: String = way.of("layout")
  val sizes = when (layout) { "nchw" -> listOf(n, height, width); "nhwc" -> listOf(height, width, n); else -> listOf(height, width) }
  val ones = List(spec.all<Any>("shape").size - sizes.size) { 1 }
  val tensor = Tensor(spec.of<String>("dtype"), *(ones + sizes).toIntArray())
  for (y in 0 until height) for (x in 0 until width) for (c in 0 until n) {
    val outside = across[x].weights.isEmpty() || down[y].weights.isEmpty()
    val level = when {
      outside -> channel(pad, c)
      heightFirst -> across[x].sum { between[it][y * n + c] }
      else -> down[y].sum { between[it][x * n + c] }
    }
    tensor.put(if (layout == "nchw") (c * height + y) * width + x else (y * width + x) * n + c, (level * scale - mean[c]) / std[c])
  }
  return tensor
}

private fun Tensor.put(i: Int, value: Double): Any = when (dtype) {
  "float32" -> data.putFloat(4 * i, value.toFloat())
  "float16" -> data.putShort(2 * i, floatToFp16(value.toFloat()))
  "int8", "uint8" -> data.put(i, value.roundToInt().toByte())
  else -> throw EdgepackError("dtype-mismatch", "an image does not become $dtype")
}

/** Width and height after resizing, before what is cut off or padded. */
private fun JSONObject.scaled(wide: Int, high: Int, width: Int, height: Int): Pair<Int, Int> {
  val (x, y) = listOf(width.toDouble() / wide, height.toDouble() / high)
  val shorter = opt("shorter_side") as Int?
  fun kept(r: Double) = Pair(max(1, (wide * r).roundToEven()), max(1, (high * r).roundToEven()))
  return when {
    of<String>("resize") == "stretch" -> Pair(width, height)
    of<String>("resize") == "letterbox" -> kept(min(x, y))
    shorter == null -> kept(max(x, y))
    wide <= high -> Pair(shorter, (shorter.toLong() * high / wide).toInt())
    else -> Pair((shorter.toLong() * wide / high).toInt(), shorter)
  }
}

private fun Double.roundToEven() = Math.rint(this).toInt()

/** The pixels [first], first + 1, … that go into one, by their weights; none: it lies outside. */
private class Taps(val first: Int, val weights: DoubleArray) {
  inline fun sum(level: (Int) -> Int): Int {
    var sum = 0.5
    for (k in weights.indices) sum += weights[k] * level(first + k)
    return sum.toInt().coerceIn(0, 255)
  }
}

/** A kernel and how far it reaches; null: the nearest pixel. */
private class Filter(val reach: Double, val kernel: (Double) -> Double)

private val FILTERS = mapOf(
  "area" to Filter(0.5) { if (it > -0.5 && it <= 0.5) 1.0 else 0.0 },
  "bilinear" to Filter(1.0) { 1 - abs(it) },
  "bicubic" to Filter(2.0) { abs(it).let { x -> if (x < 1) (1.5 * x - 2.5) * x * x + 1 else ((2.5 - 0.5 * x) * x - 4) * x + 2 } },
  "lanczos" to Filter(3.0) { sinc(it) * sinc(it / 3) },
)

private fun sinc(x: Double) = if (x == 0.0) 1.0 else sin(PI * x) / (PI * x)

/** What goes into pixel [i] of [to] out of [from]. Source: Pillow, src/libImaging/Resample.c, precompute_coeffs. */
private fun Filter?.taps(i: Int, from: Int, to: Int): Taps {
  if (i !in 0 until to) return Taps(0, DoubleArray(0))
  val scale = from.toDouble() / to
  val center = (i + 0.5) * scale
  if (this == null) return Taps(center.toInt(), doubleArrayOf(1.0))
  val stretch = max(scale, 1.0)
  val first = max((center - reach * stretch + 0.5).toInt(), 0)
  val weights = DoubleArray(min((center + reach * stretch + 0.5).toInt(), from) - first) {
    ((first + it + 0.5 - center) / stretch).let { x -> if (abs(x) < reach || x == reach) kernel(x) else 0.0 }
  }
  val sum = weights.sum()
  return Taps(first, DoubleArray(weights.size) { weights[it] / sum })
}
