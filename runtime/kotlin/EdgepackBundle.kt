// edgepack's loader for Android: opens a bundle, checks its bytes, runs its model on ONNX Runtime.
package io.edgepack

import ai.onnxruntime.*
import ai.onnxruntime.OnnxJavaType.*
import ai.onnxruntime.OrtSession.SessionOptions
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel
import ai.onnxruntime.platform.Fp16Conversions.fp16ToFloat
import ai.onnxruntime.providers.NNAPIFlags
import android.content.res.AssetManager
import android.system.Os
import java.io.*
import java.nio.*
import java.nio.channels.FileChannel.MapMode.READ_ONLY
import java.security.MessageDigest
import java.util.EnumSet
import java.util.concurrent.locks.ReentrantReadWriteLock
import kotlin.concurrent.*
import kotlin.math.abs
import org.json.*

/** [kind] is one of edgepack's error kinds, e.g. "file-corrupt". */
class EdgepackError(val kind: String, message: String) : Exception("$kind: $message")

private fun fail(kind: String, message: String): Nothing = throw EdgepackError(kind, message)

/** Gives the bytes of a file of the bundle (position to limit), or null when there is none of that name. */
fun interface BundleSource { fun read(path: String): ByteBuffer? }

/** APK assets below [folder]: memory-mapped where stored uncompressed (`noCompress`), else read. */
class AssetSource(private val assets: AssetManager, private val folder: String) : BundleSource {
    override fun read(path: String) = found {
        assets.openFd("$folder/$path").use { FileInputStream(it.fileDescriptor).map(it.startOffset, it.declaredLength) }
    } ?: found { ByteBuffer.wrap(assets.open("$folder/$path").use { it.readBytes() }) }
    override fun toString() = "assets/$folder"
}

/** A folder, e.g. in `filesDir`. Its files are memory-mapped: replace the whole folder, never a file in place. */
class DirSource(private val folder: File) : BundleSource {
    override fun read(path: String) = found { FileInputStream(File(folder, path)).use { it.map(0, it.channel.size()) } }
    override fun toString() = "$folder"
}

private fun found(read: () -> ByteBuffer) = try { read() } catch (missing: FileNotFoundException) { null }
private fun FileInputStream.map(start: Long, size: Long) = channel.map(READ_ONLY, start, size)

// ONNX Runtime's Java API makes no such inputs; it gives such outputs under the names of the signed types.
private val UNSIGNED = setOf("uint16", "uint32", "uint64")
private val DTYPES = mapOf(
    "float32" to FLOAT, "float16" to FLOAT16, "float64" to DOUBLE, "int8" to INT8, "int16" to INT16, "int32" to INT32,
    "int64" to INT64, "uint8" to UINT8, "uint16" to INT16, "uint32" to INT32, "uint64" to INT64, "bool" to BOOL,
)

/**
 * Row-major values of [dtype] (the manifest's word) that fill [shape]; a scalar's shape is empty. A direct buffer
 * goes to ONNX Runtime uncopied: keep the tensor, refill it for every frame. Throws dtype-mismatch, shape-mismatch.
 */
class Tensor(val dtype: String, val shape: IntArray, data: ByteBuffer) {
    private val bytes = data.slice().order(ByteOrder.LITTLE_ENDIAN)
    internal val size = bytes.capacity() / bytesOf(dtype)

    /** A view of the values, little-endian; float16 as its 16 bits, bool as 0 or 1: `data.asIntBuffer().put(ids)`. */
    val data: ByteBuffer get() = bytes.duplicate().order(ByteOrder.LITTLE_ENDIAN)

    init { // in Double, since a hostile shape overflows Long
        val needed = shape.fold(bytesOf(dtype).toDouble()) { n, dim -> n * dim }
        if (needed != bytes.capacity().toDouble() || shape.any { it < 0 })
            fail("shape-mismatch", "${bytes.capacity()} bytes do not fill $dtype ${shape.asList()}")
    }

    /** The values of any dtype, converted to float. */
    fun floats() = FloatArray(size).also { y ->
        if (dtype == "float32") data.asFloatBuffer().get(y) else for (i in y.indices) y[i] = number(i).toFloat()
    }

    internal fun number(i: Int): Double = when (dtype) {
        "float32" -> bytes.getFloat(4 * i).toDouble()
        "float16" -> fp16ToFloat(bytes.getShort(2 * i)).toDouble()
        "float64" -> bytes.getDouble(8 * i)
        "int8" -> bytes.get(i).toDouble()
        "int16" -> bytes.getShort(2 * i).toDouble()
        "int32" -> bytes.getInt(4 * i).toDouble()
        "int64" -> bytes.getLong(8 * i).toDouble()
        "uint16" -> bytes.getShort(2 * i).toUShort().toDouble()
        "uint32" -> bytes.getInt(4 * i).toUInt().toDouble()
        "uint64" -> bytes.getLong(8 * i).toULong().toDouble()
        else -> bytes.get(i).toUByte().toDouble()
    }

    companion object {
        /** Zeros in a direct buffer: `Tensor.zeros("uint8", 1, 224, 224, 3)`. */
        fun zeros(dtype: String, vararg shape: Int) =
            Tensor(dtype, shape, ByteBuffer.allocateDirect(shape.fold(bytesOf(dtype), Int::times)))

        /** A float32 tensor with a copy of [values]: `Tensor.of(pixels, 1, 224, 224, 3)`. */
        fun of(values: FloatArray, vararg shape: Int) = ByteBuffer.allocateDirect(4 * values.size)
            .let { Tensor("float32", shape, it) }.apply { data.asFloatBuffer().put(values) }

        private fun bytesOf(dtype: String) = DTYPES[dtype]?.size ?: fail("dtype-mismatch", "'$dtype' is not a dtype")
    }
}

/** An input or output; [shape] holds sizes (Int) and names of free dimensions (String). */
class TensorSpec(val name: String, val dtype: String, val shape: List<Any>) {
    override fun toString() = "'$name' $dtype $shape"
}

/**
 * What opened, and why the others did not ([passedOver]). [proven]: every node runs on [provider]. Known of the CPU
 * only: XNNPACK and NNAPI leave to it what they cannot run, and ONNX Runtime's Java API does not tell which nodes.
 */
data class SessionReport(
    val provider: String, val proven: Boolean, val passedOver: Map<String, String>,
    val runtimeVersion: String, val modelSha256: String, val precision: String,
)

/** An output against one expectation of a golden case; [maxAbs]: the largest |a − b|, NaN if dtype or shape differ. */
data class Comparison(
    val case: String, val output: String, val from: String,
    val maxAbs: Double, val atol: Double, val rtol: Double, val passed: Boolean,
)

/** [passed]: there were comparisons, and all passed. */
data class SelfTest(val passed: Boolean, val cases: List<Comparison>)

/** A checked bundle. Opening it hashes the model: do it off the main thread. */
class EdgepackBundle private constructor(private val source: BundleSource, manifest: Node) : AutoCloseable {
    val inputs = manifest["inputs"].list().map { it.spec() }
    val outputs = manifest["outputs"].list().map { it.spec() }
    internal val golden = manifest["golden"].list()
    private val files = manifest["files"].list().associate { it["path"].path() to it.listed() }
    private val modelPath = manifest["model"]["path"].text()
    private val format = manifest["model"]["format"].text("ort|onnx")
    private val precision = manifest["model"]["precision"].text()
    private val minVersion = manifest["runtime"]["min_version"].text("\\d{1,9}\\.\\d{1,9}\\.\\d{1,9}")
    private val providers =
        manifest["runtime"]["providers"].list().associate { it["name"].text() to it["options"].texts() }
    private val settings = manifest["runtime"]["session"]
    private val level = settings["graph_optimization_level"].text("disabled|basic|extended|layout|all")
        .let { OptLevel.valueOf(if (it == "disabled") "NO_OPT" else "${it.uppercase()}_OPT") }
    private val ownThreads = settings["intra_op_num_threads"].count()
    private val config = settings["config"].texts()
    private var model: ByteBuffer? = files.filterValues { it.role == "model" }.mapValues { read(it.key) }[modelPath]
        ?: fail("manifest-invalid", "manifest.json: files lists no $modelPath of role model")

    internal fun read(path: String): ByteBuffer {
        val listed = files[path] ?: fail("manifest-invalid", "manifest.json: files does not list $path")
        val data = source.read(path) ?: fail("file-missing", "$path is not in $source")
        if (data.remaining() != listed.size)
            fail("file-corrupt", "$path has ${data.remaining()} bytes, manifest.json says ${listed.size}")
        val digest = MessageDigest.getInstance("SHA-256").apply { update(data.duplicate()) }.digest()
        val sha256 = digest.joinToString("") { "%02x".format(it) }
        if (sha256 != listed.sha256)
            fail("file-corrupt", "$path has SHA-256 $sha256, manifest.json says ${listed.sha256}")
        return data
    }

    /**
     * Opens the model with the first provider that can be had.
     * @param providers out of the manifest's, in the order to try; null: the manifest's order.
     * @param threads for XNNPACK if that opens, else for ONNX Runtime; null: the manifest's.
     * @throws EdgepackError runtime-too-old, provider-unavailable; dtype-mismatch where Java cannot make an input.
     */
    fun session(providers: List<String>? = null, threads: Int? = null): EdgepackSession {
        val model = checkNotNull(model) { "the bundle is closed" }.direct()
        // Telemetry: the variable stops it if ONNX Runtime has not started, the call most of it if it has (Privacy.md).
        Os.setenv("ORT_DISABLE_TELEMETRY", "1", true)
        val env = OrtEnvironment.getEnvironment().apply { setTelemetry(false) }
        val version = env.version
        if (sortable(version) < sortable(minVersion))
            fail("runtime-too-old", "ONNX Runtime is $version, $source needs $minVersion or newer")
        inputs.find { it.dtype in UNSIGNED }?.let { fail("dtype-mismatch", "input $it: not in ONNX Runtime's Java API") }
        val passedOver = LinkedHashMap<String, String>()
        for (name in providers ?: this.providers.keys) try {
            val session = SessionOptions().use { it.configure(name, threads); env.createSession(model, it) }
            val sha256 = files.getValue(modelPath).sha256
            val report = SessionReport(name, name == CPU, passedOver, version, sha256, precision)
            return EdgepackSession(this, session, model, report)
        } catch (e: Exception) {
            passedOver[name] = e.message ?: "$e"
        }
        fail("provider-unavailable", "no provider opens $modelPath: $passedOver")
    }

    private fun SessionOptions.configure(provider: String, threads: Int?) {
        val own = requireNotNull(providers[provider]) { "manifest.json does not list it" }
        setOptimizationLevel(level)
        setIntraOpNumThreads(threads ?: ownThreads)
        if (format == "ort") addConfigEntry("session.use_ort_model_bytes_directly", "1") // see EdgepackSession.run
        config.forEach(::addConfigEntry)
        when (provider) {
            CPU -> Unit
            "NnapiExecutionProvider" -> addNnapi(EnumSet.noneOf(NNAPIFlags::class.java).apply {
                own["flags"]?.split(',')?.mapTo(this) { NNAPIFlags.valueOf(it) }
            })
            "XnnpackExecutionProvider" -> { // has its own pool, ONNX Runtime's page on XNNPACK says to shrink the other
                setIntraOpNumThreads(maxOf(ownThreads, 1))
                addXnnpack(if (threads == null) own else own + ("intra_op_num_threads" to "$threads"))
            }
            else -> throw IllegalArgumentException("this loader cannot open it")
        }
    }

    /** Lets go of the model's bytes; sessions live on. */
    override fun close() { model = null }

    companion object {
        private const val CPU = "CPUExecutionProvider"
        private val KNOWN = "schema critical release target model inputs outputs runtime golden files build".split(' ')

        /** @throws EdgepackError bundle-not-found, manifest-invalid, schema-unsupported, file-missing, file-corrupt. */
        fun open(source: BundleSource): EdgepackBundle {
            val bytes = source.read("manifest.json") ?: fail("bundle-not-found", "there is no manifest.json in $source")
            val manifest = try {
                val json = JSONTokener(Charsets.UTF_8.decode(bytes).toString())
                Node("", json.nextValue() as JSONObject).also { check(json.nextClean() == '\u0000') { "it goes on" } }
            } catch (e: Throwable) { // or StackOverflowError, of absurd nesting
                fail("manifest-invalid", "manifest.json is not a JSON object: $e")
            }
            val schema = manifest["schema"].count()
            if (schema > 1) fail("schema-unsupported", "manifest.json has schema $schema, this loader knows 1")
            val unknown = manifest["critical"].list().map { it.text() } - KNOWN
            if (unknown.isNotEmpty()) fail("schema-unsupported", "manifest.json: critical names $unknown, unknown here")
            return EdgepackBundle(source, manifest)
        }
    }
}

/** An open model; any thread may run it. In a coroutine: `withContext(Dispatchers.Default) { session.run(inputs) }`. */
class EdgepackSession internal constructor(
    private val bundle: EdgepackBundle, private val session: OrtSession,
    private val model: ByteBuffer, private val report: SessionReport,
) : AutoCloseable {
    private val env = OrtEnvironment.getEnvironment()
    private val dtypes = bundle.outputs.associate { it.name to it.dtype }
    private val lock = ReentrantReadWriteLock()
    private var closed = false

    fun report() = report

    /** Outputs by name. @throws EdgepackError input-missing, input-unknown, dtype-mismatch, shape-mismatch. */
    fun run(inputs: Map<String, Tensor>): Map<String, Tensor> = lock.read {
        check(model.isDirect) // ONNX Runtime uses its bytes in place; without a read R8 drops the field, and they go
        verify(inputs)
        val given = LinkedHashMap<String, OnnxTensor>()
        try {
            for ((name, x) in inputs) {
                val shape = LongArray(x.shape.size) { x.shape[it].toLong() }
                given[name] = OnnxTensor.createTensor(env, x.data.direct(), shape, DTYPES[x.dtype])
            }
            session.run(given, dtypes.keys).use { outputs ->
                outputs.associate { (name, y) -> name to tensor(name, y as OnnxTensor) }
            }
        } finally {
            given.values.forEach { it.close() }
        }
    }

    private fun verify(inputs: Map<String, Tensor>) {
        val free = HashMap<Any, Int>()
        for (spec in bundle.inputs) {
            val x = inputs[spec.name] ?: fail("input-missing", "input $spec is not among ${inputs.keys}")
            if (x.dtype != spec.dtype) fail("dtype-mismatch", "input $spec: got ${x.dtype}")
            val fits = x.shape.size == spec.shape.size && spec.shape.withIndex().all { (i, size) ->
                x.shape[i] == (size as? Int ?: free.getOrPut(size) { x.shape[i] })
            }
            if (!fits) fail("shape-mismatch", "input $spec: got ${x.shape.asList()}, free dimensions $free")
        }
        if (inputs.size > bundle.inputs.size)
            fail("input-unknown", "of ${inputs.keys} the model takes only ${bundle.inputs}")
    }

    private fun tensor(name: String, y: OnnxTensor): Tensor {
        val dtype = dtypes.getValue(name)
        if (y.info.type != DTYPES[dtype]) fail("dtype-mismatch", "output '$name': got ${y.info.type}, expected $dtype")
        return Tensor(dtype, y.info.shape.let { shape -> IntArray(shape.size) { shape[it].toInt() } }, y.byteBuffer)
    }

    /** Runs the golden cases; a miss is not thrown. @throws EdgepackError file-missing, file-corrupt, and as [run]. */
    fun selfTest(): SelfTest {
        val cases = bundle.golden.flatMap { case ->
            val answers = run(case["inputs"].list().associate { it["name"].text() to it.tensor(bundle) })
            case["expect"].list().map { compare(case["name"].text(), it, answers) }
        }
        return SelfTest(cases.isNotEmpty() && cases.all { it.passed }, cases)
    }

    private fun compare(case: String, expect: Node, answers: Map<String, Tensor>): Comparison {
        val y = answers[expect["name"].text()] ?: expect["name"].refuse("one of ${answers.keys}")
        val golden = expect.tensor(bundle)
        val atol = expect["atol"].number()
        val rtol = expect["rtol"].number()
        var passed = y.dtype == golden.dtype && y.shape.contentEquals(golden.shape)
        var maxAbs = if (passed) 0.0 else Double.NaN
        val wide = golden.dtype.endsWith("int64") // Double cannot tell neighbours beyond 2^53: they differ by 1 or more
        if (passed) for (i in 0 until golden.size) {
            val a = y.number(i)
            val b = golden.number(i)
            val miss = when {
                wide && y.data.getLong(8 * i) != golden.data.getLong(8 * i) -> maxOf(1.0, abs(a - b))
                a == b || a.isNaN() && b.isNaN() -> 0.0
                else -> abs(a - b)
            }
            passed = passed && miss.isFinite() && miss <= atol + rtol * abs(b)
            maxAbs = maxOf(maxAbs, miss)
        }
        return Comparison(case, expect["name"].text(), expect["from"].text(), maxAbs, atol, rtol, passed)
    }

    /** Waits for running calls, then frees the model. */
    override fun close() = lock.write { if (!closed) session.close().also { closed = true } }
}

internal class Listed(val size: Int, val sha256: String, val role: String)

// A value of the manifest and its place. org.json's own getters convert types in silence, these refuse.
internal class Node(private val at: String, private val value: Any?) {
    private inline fun <reified T> typed(what: String) = value as? T ?: refuse(what)
    operator fun get(key: String) = Node("$at.$key".trimStart('.'), typed<JSONObject>("an object").opt(key))
    fun list() = typed<JSONArray>("a list").let { list -> List(list.length()) { Node("$at[$it]", list.opt(it)) } }
    fun text(form: String = "(?s).*") = typed<String>("a string").also { if (!Regex(form).matches(it)) refuse(form) }
    fun texts() = typed<JSONObject>("an object").keys().asSequence().associateWith { this[it].text() }
    fun number() = typed<Number>("a number").toDouble()
    fun count() = typed<Int>("a 32-bit integer").also { if (it < 0) refuse("0 or more") }
    fun path() = text().also { path ->
        if ('\\' in path || path.split('/').any { it in setOf("", ".", "..") }) refuse("a path inside the bundle")
    }
    fun listed() = Listed(this["size"].count(), this["sha256"].text("[0-9a-f]{64}"), this["role"].text())
    fun spec() = TensorSpec(this["name"].text(), dtype(), shape().map { it.value as? String ?: it.count() })
    fun tensor(of: EdgepackBundle): Tensor {
        val data = of.read(this["path"].text())
        return Tensor(dtype(), shape().map { it.count() }.toIntArray(), data)
    }
    fun refuse(expected: String): Nothing =
        fail("manifest-invalid", "manifest.json: $at is ${"${value ?: "missing"}".take(80)}, expected $expected")
    private fun shape() = this["shape"].list()
    private fun dtype() = this["dtype"].run { text().also { if (it !in DTYPES) refuse("one of ${DTYPES.keys}") } }
}

private fun ByteBuffer.direct() =
    if (isDirect) this else ByteBuffer.allocateDirect(remaining()).also { it.duplicate().put(duplicate()) }

private fun sortable(version: String) =
    Regex("\\d+").findAll(version).take(3).joinToString(".") { it.value.padStart(9, '0') }
