// What goes into a model and comes out of it.
package io.edgepack

import ai.onnxruntime.OnnxJavaType.*
import ai.onnxruntime.platform.Fp16Conversions.fp16ToFloat
import java.nio.*

// ONNX Runtime's Java API makes no uint16, uint32 and uint64; it gives them under the names of the signed types.
internal val UNMADE = setOf("uint16", "uint32", "uint64")
internal val DTYPES = mapOf(
  "float32" to FLOAT, "float16" to FLOAT16, "float64" to DOUBLE, "int8" to INT8, "int16" to INT16, "int32" to INT32,
  "int64" to INT64, "uint8" to UINT8, "uint16" to INT16, "uint32" to INT32, "uint64" to INT64, "bool" to BOOL,
)
private fun width(dtype: String) = DTYPES[dtype]?.size ?: fail("dtype-mismatch", "'$dtype' is not a dtype")

/**
 * Row-major values of [dtype], the manifest's word for it. A direct buffer goes to ONNX Runtime uncopied: refill it for every run.
 * @throws EdgepackError dtype-mismatch: no such dtype; shape-mismatch: the values do not fill [shape].
 */
class Tensor(val dtype: String, val shape: List<Int>, buffer: ByteBuffer) {
  /** Little-endian; float16 as its bits, bool as 0 or 1: `data.asIntBuffer().put(ids)`. */
  val data: ByteBuffer = buffer.slice().order(ByteOrder.LITTLE_ENDIAN)
  val size = data.capacity() / width(dtype)

  init { // in Double: a hostile shape overflows
    if (shape.fold(width(dtype) + 0.0, Double::times) != data.capacity() + 0.0 || shape.any { it < 0 })
      fail("shape-mismatch", "${data.capacity()} bytes do not fill $dtype $shape")
  }

  /** Zeros: `Tensor("uint8", 1, 224, 224, 3)`. */
  constructor(dtype: String, vararg shape: Int) :
    this(dtype, shape.asList(), ByteBuffer.allocateDirect(shape.fold(width(dtype), Int::times)))

  /** Fills a float32 tensor. */
  fun put(values: FloatArray) = apply {
    if (values.size != size) fail("shape-mismatch", "${values.size} values do not fill $shape")
    data.asFloatBuffer().put(values)
  }

  /** Value [i]; bool as 0 or 1. */
  operator fun get(i: Int): Number = when (dtype) {
    "float32" -> data.getFloat(4 * i)
    "float16" -> fp16ToFloat(data.getShort(2 * i))
    "float64" -> data.getDouble(8 * i)
    "int16" -> data.getShort(2 * i)
    "int32" -> data.getInt(4 * i)
    "int64" -> data.getLong(8 * i)
    "int8" -> data[i]
    "uint16" -> data.getShort(2 * i).toInt() and 0xffff
    "uint32" -> data.getInt(4 * i).toLong() and 0xffffffff
    "uint64" -> data.getLong(8 * i).toULong().toDouble()
    else -> data[i].toInt() and 255
  }

  /** The values of any dtype, as float. */
  fun floats() = FloatArray(size).also { y ->
    if (dtype == "float32") data.asFloatBuffer().get(y) else for (i in y.indices) y[i] = this[i].toFloat()
  }
}
