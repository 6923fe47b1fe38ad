// edgepack's loader for Android: opens a bundle and runs its model on ONNX Runtime.
package io.edgepack

import ai.onnxruntime.*
import ai.onnxruntime.OnnxJavaType.*
import ai.onnxruntime.OrtSession.SessionOptions
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel.*
import ai.onnxruntime.platform.Fp16Conversions.fp16ToFloat
import ai.onnxruntime.providers.*
import android.content.res.AssetManager
import android.system.Os
import java.io.*
import java.nio.*
import java.nio.channels.FileChannel.MapMode.READ_ONLY
import java.security.MessageDigest
import java.util.EnumSet
import java.util.concurrent.locks.*
import kotlin.concurrent.*
import org.json.*

/** [kind]: one of the kinds in README.md, e.g. "file-corrupt". */
class EdgepackError(val kind: String, message: String) : Exception("$kind: $message")

internal fun fail(kind: String, message: String): Nothing = throw EdgepackError(kind, message)

/** A checked bundle. Opening it hashes the model: do it off the main thread. */
class EdgepackBundle private constructor(
  private val place: String, val manifest: JSONObject, private val source: (String) -> ByteBuffer?,
) : AutoCloseable {
  internal val inputs = manifest.named("inputs").mapValues(::Spec)
  internal val outputs = manifest.named("outputs").mapValues(::Spec)
  private val runtime: JSONObject = manifest.of("runtime")
  private val providers = runtime.named("providers").mapValues { it.value.texts("options") }
  private val files = manifest.all<JSONObject>("files").associateBy { it.of<String>("path") }
  private val info: JSONObject = manifest.of("model")
  private val path: String = info.of("path")
  private var model: ByteBuffer? = files.filterValues { it.of<String>("role") == "model" }.mapValues { read(it.key) }[path]
    ?.direct() ?: invalid("files lists no $path of role model")

  internal fun read(path: String): ByteBuffer {
    val file = files[path] ?: invalid("files does not list $path")
    if (!path.split('/').all(Regex("[A-Za-z0-9_][A-Za-z0-9_.-]*")::matches)) invalid("$path is not inside the bundle")
    val data = source(path) ?: fail("file-missing", "$path is not in $place")
    val digest = MessageDigest.getInstance("SHA-256").apply { update(data.duplicate()) }.digest()
    val (size, sha256) = Pair(data.remaining(), digest.joinToString("") { "%02x".format(it) })
    if (size == file.count("size") && sha256 == file.of<String>("sha256")) return data
    fail("file-corrupt", "$path has $size bytes, SHA-256 $sha256; manifest.json says $file")
  }

  /** The model on the first of [providers] that opens it; null: the manifest's. [threads]: XNNPACK's, if that opens. */
  fun session(providers: Iterable<String>? = null, threads: Int? = null): EdgepackSession {
    Os.setenv("ORT_DISABLE_TELEMETRY", "1", true) // before ONNX Runtime starts; setTelemetry: after
    val env = OrtEnvironment.getEnvironment().apply { setTelemetry(false) }
    val least: String = runtime.of("min_version")
    if (ordered(env.version) < ordered(least)) fail("runtime-too-old", "$place needs $least, this is ${env.version}")
    val bytes = checkNotNull(model) { "the bundle is closed" }
    val passed = JSONObject()
    for (name in providers ?: this.providers.keys) try {
      val session = SessionOptions().use { it.configure(name, threads); env.createSession(bytes, it) }
      val report = JSONObject().put("provider", name).put("passed_over", passed).put("runtime_version", env.version)
        .put("model_sha256", files.getValue(path)["sha256"]).put("precision", info["precision"])
      return EdgepackSession(this, session, bytes, report)
    } catch (e: Exception) {
      passed.put(name, if (e is EdgepackError) throw e else e.message)
    }
    fail("provider-unavailable", "no provider opens $path: $passed")
  }

  private fun SessionOptions.configure(provider: String, threads: Int?) {
    val own = providers[provider] ?: error("manifest.json does not list it")
    val settings: JSONObject = runtime.of("session")
    val level: String = settings.of("graph_optimization_level")
    setOptimizationLevel(LEVELS[level] ?: invalid("graph_optimization_level is $level"))
    setIntraOpNumThreads(threads ?: settings.count("intra_op_num_threads"))
    // No copy of an .ort model, nor of its weights: [EdgepackSession] keeps the bytes.
    for (use in listOf("directly", "for_initializers")) addConfigEntry("session.use_ort_model_bytes_$use", "1")
    settings.texts("config").forEach(::addConfigEntry)
    when (provider) {
      "CPUExecutionProvider" -> Unit
      "NnapiExecutionProvider" -> own["flags"]?.split(',').orEmpty()
        .mapTo(EnumSet.noneOf(NNAPIFlags::class.java), NNAPIFlags::valueOf).let(::addNnapi)
      "XnnpackExecutionProvider" -> {
        setIntraOpNumThreads(1) // XNNPACK brings its own
        addXnnpack(if (threads == null) own else own + ("intra_op_num_threads" to "$threads"))
      }
      else -> error("this loader cannot open it")
    }
  }

  /** Lets go of the model's bytes; sessions live on. */
  override fun close() { model = null }

  companion object {
    private val LEVELS = mapOf("disabled" to NO_OPT, "basic" to BASIC_OPT, "extended" to EXTENDED_OPT, "all" to ALL_OPT)

    /** From the app's assets: memory-mapped where stored uncompressed (`noCompress`), else read. */
    fun open(assets: AssetManager, folder: String) = open("assets/$folder") { path ->
      found { assets.openFd("$folder/$path").use { FileInputStream(it.fileDescriptor).map(it.startOffset, it.length) } }
        ?: found { ByteBuffer.wrap(assets.open("$folder/$path").use { it.readBytes() }) }
    }

    /** From a folder, memory-mapped: replace it whole, never a file in it. */
    fun open(folder: File) = open("$folder") { path ->
      found { FileInputStream(File(folder, path)).use { it.map(0, it.channel.size()) } }
    }

    /** From anywhere: [read] gives a file's bytes by its path, or null. */
    fun open(place: String, read: (String) -> ByteBuffer?): EdgepackBundle {
      val text = read("manifest.json") ?: fail("bundle-not-found", "no manifest.json in $place")
      val manifest = try {
        JSONTokener("${Charsets.UTF_8.decode(text)}").run { (nextValue() as JSONObject).also { check(!more()) } }
      } catch (e: Throwable) { // or StackOverflowError, of absurd nesting
        invalid("not one JSON object: $e")
      }
      val critical = manifest.all<String>("critical")
      if (manifest.count("schema") > 1 || critical.isNotEmpty())
        fail("schema-unsupported", "schema ${manifest["schema"]}, critical $critical")
      return EdgepackBundle(place, manifest, read)
    }

    private fun found(read: () -> ByteBuffer) = try { read() } catch (missing: FileNotFoundException) { null }
    private fun FileInputStream.map(start: Long, size: Long) = channel.map(READ_ONLY, start, size)
  }
}

/** An open model; any thread may run it. */
class EdgepackSession internal constructor(
  internal val bundle: EdgepackBundle, private val session: OrtSession,
  private val model: ByteBuffer, private val report: JSONObject,
) : AutoCloseable {
  private val lock = ReentrantReadWriteLock()
  private var open = true

  /** What opened, and why others did not. */
  fun report() = report

  /** Outputs by name. @throws EdgepackError input-missing, input-unknown, dtype-mismatch, shape-mismatch. */
  fun run(inputs: Map<String, Tensor>): Map<String, Tensor> = lock.read {
    val given = HashMap<String, OnnxTensor>()
    val free = HashMap<Any, Int>()
    try {
      for ((name, spec) in bundle.inputs) {
        val x = inputs[name] ?: fail("input-missing", "'$name' is not among ${inputs.keys}")
        val shape = spec.shape.mapIndexed { i, d -> d as? Int ?: free.getOrPut(d) { x.shape.getOrElse(i) { 0 } } }
        if (x.dtype != spec.dtype) fail("dtype-mismatch", "'$name' is ${x.dtype}, expected ${spec.dtype}")
        if (x.shape != shape) fail("shape-mismatch", "'$name' is ${x.shape}, expected ${spec.shape}, $free")
        val sizes = LongArray(shape.size) { shape[it].toLong() }
        given[name] = OnnxTensor.createTensor(OrtEnvironment.getEnvironment(), x.data, sizes, DTYPES[x.dtype])
      }
      (inputs.keys - given.keys).forEach { fail("input-unknown", "'$it' is not among ${given.keys}") }
      session.run(given, bundle.outputs.keys).use { it.associate { (name, y) -> name to tensor(name, y as OnnxTensor) } }
    } finally {
      given.values.forEach { it.close() }
    }
  }

  private fun tensor(name: String, y: OnnxTensor): Tensor {
    val dtype = bundle.outputs.getValue(name).dtype
    if (y.info.type != DTYPES[dtype]) fail("dtype-mismatch", "output '$name' is ${y.info.type}, expected $dtype")
    return Tensor(dtype, y.info.shape.map { it.toInt() }, y.byteBuffer)
  }

  /** Waits for running calls, then frees the model. */
  override fun close() = lock.write { if (open) session.close().also { open = false } }
}

/**
 * Row-major values of [dtype], the manifest's word for it. A direct buffer is never copied: refill it for every run.
 * @throws EdgepackError dtype-mismatch: no such dtype; shape-mismatch: the values do not fill [shape].
 */
class Tensor(val dtype: String, val shape: List<Int>, buffer: ByteBuffer) {
  /** Little-endian; float16 as its bits, bool as 0 or 1: `data.asFloatBuffer().put(x)`. */
  val data: ByteBuffer = buffer.direct().slice().order(ByteOrder.LITTLE_ENDIAN)
  val size = data.capacity() / width(dtype)

  init { // in Double: a hostile shape overflows
    if (shape.fold(width(dtype) + 0.0, Double::times) != data.capacity() + 0.0 || shape.any { it < 0 })
      fail("shape-mismatch", "${data.capacity()} bytes do not fill $dtype $shape")
  }

  /** Zeros: `Tensor("uint8", 1, 224, 224, 3)`. */
  constructor(dtype: String, vararg shape: Int) :
    this(dtype, shape.asList(), ByteBuffer.allocateDirect(shape.fold(width(dtype), Int::times)))

  /** Value [i]; bool as 0 or 1. */
  operator fun get(i: Int): Number = when (dtype) {
    "float32" -> data.getFloat(4 * i)
    "float16" -> fp16ToFloat(data.getShort(2 * i))
    "float64" -> data.getDouble(8 * i)
    "int64" -> data.getLong(8 * i)
    "int32" -> data.getInt(4 * i)
    "int16" -> data.getShort(2 * i)
    "int8" -> data[i]
    else -> data[i].toInt() and 255
  }

  /** The values, as float. */
  fun floats() = FloatArray(size).also { y ->
    if (dtype == "float32") data.asFloatBuffer().get(y) else for (i in y.indices) y[i] = this[i].toFloat()
  }
}

// ONNX Runtime's Java API has no uint16, uint32 and uint64: no bundle for Android has them.
private val DTYPES = mapOf("float32" to FLOAT, "float64" to DOUBLE) +
  listOf(FLOAT16, INT8, UINT8, INT16, INT32, INT64, BOOL).associateBy { "$it".lowercase() }
private fun width(dtype: String) = DTYPES[dtype]?.size ?: fail("dtype-mismatch", "'$dtype' is not a dtype")

/** An input or output. */
internal class Spec(named: Map.Entry<String, JSONObject>) {
  val dtype = named.value.of<String>("dtype").also { if (it !in DTYPES) invalid("dtype of $named is $it") }
  val shape = named.value.all<Any>("shape").onEach { if (it !is String && (it as? Int ?: -1) < 0) invalid("shape of $named has $it") }
}

internal fun invalid(message: String): Nothing = fail("manifest-invalid", "manifest.json: $message")

// org.json's own getters convert types in silence; these refuse.
internal inline fun <reified T> Any?.need(key: String) = this as? T ?: invalid("$key is $this, no ${T::class.java.simpleName}")
internal inline fun <reified T> JSONObject.of(key: String) = opt(key).need<T>(key)
internal inline fun <reified T> JSONObject.all(key: String) =
  of<JSONArray>(key).let { list -> List(list.length()) { list.opt(it).need<T>("$key[$it]") } }
private fun JSONObject.count(key: String) = of<Int>(key).also { if (it < 0) invalid("$key is $it") }
internal fun JSONObject.named(key: String) = all<JSONObject>(key).associateBy { it.of<String>("name") }
private fun JSONObject.texts(key: String) = of<JSONObject>(key).run { keys().asSequence().associateWith { of<String>(it) } }

private fun ByteBuffer.direct() =
  if (isDirect) this else ByteBuffer.allocateDirect(remaining()).also { it.duplicate().put(duplicate()) }

private fun ordered(version: String) = version.split('.').fold(0L) { sum, part ->
  sum * 1000 + (part.toLongOrNull() ?: invalid("'$version' is no version"))
}
