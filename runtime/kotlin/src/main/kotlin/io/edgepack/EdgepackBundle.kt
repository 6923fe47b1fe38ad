// edgepack's loader for Android: opens a bundle, checks its bytes, runs its model on ONNX Runtime.
package io.edgepack

import ai.onnxruntime.*
import ai.onnxruntime.OrtSession.SessionOptions
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel
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
import kotlin.math.*
import org.json.*

/** [kind]: one of the kinds in README.md, e.g. "file-corrupt". */
class EdgepackError(val kind: String, message: String) : Exception("$kind: $message")

internal fun fail(kind: String, message: String): Nothing = throw EdgepackError(kind, message)

/** A checked bundle. Opening it hashes the model: do it off the main thread. */
class EdgepackBundle private constructor(
  private val place: String, val manifest: JSONObject, private val source: (String) -> ByteBuffer?,
) : AutoCloseable {
  internal val inputs = manifest.specs("inputs")
  internal val outputs = manifest.specs("outputs")
  private val info: JSONObject = manifest.of("model")
  private val format = info.of<String>("format").also { if (it != "ort" && it != "onnx") invalid("format is $it") }
  private val runtime: JSONObject = manifest.of("runtime")
  private val least = runtime.matching("min_version", "\\d+(\\.\\d+)*")
  private val settings: JSONObject = runtime.of("session")
  private val intraOp = settings.of<Int>("intra_op_num_threads").also { if (it < 0) invalid("intra_op_num_threads is $it") }
  private val providers = runtime.named("providers").mapValues { it.value.texts("options") }
  private val files = manifest.files()
  private val path: String = info.of("path")
  private var model: ByteBuffer? = files.filterValues { it.of<String>("role") == "model" }.mapValues { read(it.key) }[path]
    ?: invalid("files lists no $path of role model")

  internal fun read(path: String): ByteBuffer {
    val file = files[path] ?: invalid("files does not list $path")
    val data = source(path) ?: fail("file-missing", "$path is not in $place")
    val digest = MessageDigest.getInstance("SHA-256").apply { update(data.duplicate()) }.digest()
    val (size, sha256) = Pair(data.remaining(), digest.joinToString("") { "%02x".format(it) })
    if (size == file.of<Int>("size") && sha256 == file.of<String>("sha256")) return data
    fail("file-corrupt", "$path has $size bytes, SHA-256 $sha256; manifest.json says $file")
  }

  /** The model on the first of [providers] that opens it; null: the manifest's. [threads]: XNNPACK's, if that opens. */
  fun session(providers: Iterable<String>? = null, threads: Int? = null): EdgepackSession {
    Os.setenv("ORT_DISABLE_TELEMETRY", "1", true) // counts before ONNX Runtime starts, setTelemetry after
    val env = OrtEnvironment.getEnvironment().apply { setTelemetry(false) }
    if (ordered(env.version) < ordered(least)) fail("runtime-too-old", "$place needs $least, this is ${env.version}")
    val bytes = checkNotNull(model) { "the bundle is closed" }.direct()
    val passed = JSONObject()
    for (name in providers ?: this.providers.keys) try {
      val session = SessionOptions().use { it.configure(name, threads); env.createSession(bytes, it) }
      val report = JSONObject().put("provider", name).put("passed_over", passed).put("runtime_version", env.version)
        .put("model_sha256", files.getValue(path)["sha256"]).put("precision", info["precision"])
      return EdgepackSession(this, session, bytes, report)
    } catch (e: EdgepackError) {
      throw e
    } catch (e: Exception) {
      passed.put(name, e.message)
    }
    fail("provider-unavailable", "no provider opens $path: $passed")
  }

  private fun SessionOptions.configure(provider: String, threads: Int?) {
    val own = providers[provider] ?: error("manifest.json does not list it")
    val level: String = settings.of("graph_optimization_level")
    val name = if (level == "disabled") "NO_OPT" else "${level.uppercase()}_OPT"
    setOptimizationLevel(OptLevel.values().find { it.name == name } ?: invalid("graph_optimization_level is $level"))
    setIntraOpNumThreads(threads ?: intraOp)
    // No copy of the model, nor of its weights: [EdgepackSession] keeps the bytes.
    if (format == "ort") for (use in listOf("directly", "for_initializers")) addConfigEntry("session.use_ort_model_bytes_$use", "1")
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
    private val KNOWN = "schema critical release target model inputs outputs runtime golden files build".split(' ')

    /** From the app's assets: memory-mapped where stored uncompressed (`noCompress`), else read. */
    fun open(assets: AssetManager, folder: String) = open("assets/$folder") { path ->
      found { assets.openFd("$folder/$path").use { FileInputStream(it.fileDescriptor).map(it.startOffset, it.length) } }
        ?: found { ByteBuffer.wrap(assets.open("$folder/$path").use { it.readBytes() }) }
    }

    /** From a folder; memory-mapped: replace the whole folder, never a file in it. */
    fun open(folder: File) = open("$folder") { path ->
      found { FileInputStream(File(folder, path)).use { it.map(0, it.channel.size()) } }
    }

    /** From anywhere: [read] gives a file's bytes by its path, or null. */
    fun open(place: String, read: (String) -> ByteBuffer?): EdgepackBundle {
      val text = read("manifest.json") ?: fail("bundle-not-found", "there is no manifest.json in $place")
      val manifest = try {
        JSONTokener("${Charsets.UTF_8.decode(text)}").run { (nextValue() as JSONObject).also { check(!more()) } }
      } catch (e: Throwable) { // or StackOverflowError, of absurd nesting
        invalid("not one JSON object: $e")
      }
      val unknown = manifest.all<String>("critical") - KNOWN
      if (manifest.of<Int>("schema") > 1 || unknown.isNotEmpty())
        fail("schema-unsupported", "schema ${manifest["schema"]}, critical $unknown; this loader knows 1, []")
      return EdgepackBundle(place, manifest, read)
    }

    private fun found(read: () -> ByteBuffer) = try { read() } catch (missing: FileNotFoundException) { null }
    private fun FileInputStream.map(start: Long, size: Long) = channel.map(READ_ONLY, start, size)
  }
}

/** An open model; any thread may run it. In a coroutine: `withContext(Dispatchers.Default) { session.run(inputs) }`. */
class EdgepackSession internal constructor(
  private val bundle: EdgepackBundle, private val session: OrtSession,
  private val model: ByteBuffer, private val report: JSONObject,
) : AutoCloseable {
  private val inputs = bundle.inputs
  private val outputs = bundle.outputs
  private val env = OrtEnvironment.getEnvironment()
  private val lock = ReentrantReadWriteLock()
  private var open = true

  /** What opened, and why others did not. XNNPACK and NNAPI leave nodes to the CPU; Java is not told which. */
  fun report() = report

  /** Outputs by name. @throws EdgepackError input-missing, input-unknown, dtype-mismatch, shape-mismatch. */
  fun run(inputs: Map<String, Tensor>): Map<String, Tensor> = lock.read {
    val given = HashMap<String, OnnxTensor>()
    val free = HashMap<Any, Int>()
    try {
      for ((name, spec) in this.inputs) {
        val x = inputs[name] ?: fail("input-missing", "'$name' is not among ${inputs.keys}")
        val shape = spec.all<Any>("shape").mapIndexed { i, d -> d as? Int ?: free.getOrPut(d) { x.shape.getOrElse(i) { 0 } } }
        if (x.dtype != spec["dtype"]) fail("dtype-mismatch", "'$name' is ${x.dtype}, expected ${spec["dtype"]}")
        if (x.dtype in UNMADE) fail("dtype-mismatch", "'$name': ONNX Runtime's Java API makes no ${x.dtype}")
        if (x.shape != shape) fail("shape-mismatch", "'$name' is ${x.shape}, expected ${spec["shape"]}, $free")
        val dims = LongArray(shape.size) { shape[it].toLong() }
        given[name] = OnnxTensor.createTensor(env, x.data.direct(), dims, DTYPES[x.dtype])
      }
      (inputs.keys - given.keys).forEach { fail("input-unknown", "'$it' is not among ${given.keys}") }
      session.run(given, outputs.keys).use { it.associate { (name, y) -> name to tensor(name, y as OnnxTensor) } }
    } finally {
      given.values.forEach { it.close() }
    }
  }

  private fun tensor(name: String, y: OnnxTensor): Tensor {
    val dtype: String = outputs.getValue(name).of("dtype")
    if (y.info.type != DTYPES[dtype]) fail("dtype-mismatch", "output '$name' is ${y.info.type}, expected $dtype")
    return Tensor(dtype, y.info.shape.map { it.toInt() }, y.byteBuffer)
  }

  /** The golden run: `passed`, and each comparison in `cases`. A miss is not thrown. */
  fun selfTest(): JSONObject {
    val cases = bundle.manifest.all<JSONObject>("golden").flatMap { case ->
      val answers = run(case.named("inputs").mapValues { golden(it.value) })
      case.all<JSONObject>("expect").map { compare(answers, it).put("case", case["name"]) }
    }
    return JSONObject().put("passed", cases.isNotEmpty() && cases.all { it.of("passed") }).put("cases", JSONArray(cases))
  }

  private fun golden(json: JSONObject) = Tensor(json.of("dtype"), json.all("shape"), bundle.read(json.of("path")))

  private fun compare(answers: Map<String, Tensor>, expect: JSONObject): JSONObject {
    val y = answers[expect.of("name")] ?: invalid("golden: ${expect["name"]} is not among ${answers.keys}")
    val wanted = golden(expect)
    val (atol, rtol) = listOf("atol", "rtol").map { expect.of<Number>(it).toDouble() }
    var passed = y.dtype == wanted.dtype && y.shape == wanted.shape
    var worst = if (passed) 0.0 else Double.NaN
    if (passed) for (i in 0 until y.size) if (y[i] != wanted[i]) {
      val b = wanted[i].toDouble()
      val miss = max(abs(y[i].toDouble() - b), if (y[i] is Long) 1.0 else 0.0) // two Longs may be one Double
      passed = passed && miss.isFinite() && miss <= atol + rtol * abs(b)
      worst = max(worst, miss)
    }
    return JSONObject(expect, arrayOf("from", "atol", "rtol")).put("output", expect["name"]).put("passed", passed)
      .put("max_abs", if (worst.isFinite()) worst else JSONObject.NULL)
  }

  /** Waits for running calls, then frees the model. */
  override fun close() = lock.write { if (open) session.close().also { open = false } }
}

private fun ByteBuffer.direct() =
  if (isDirect) this else ByteBuffer.allocateDirect(remaining()).also { it.duplicate().put(duplicate()) }

private fun ordered(version: String) =
  Regex("\\d+").findAll(version).take(3).fold(0L) { n, part -> n * 1_000_000 + part.value.toLong() }
