// Runs the loader over Robolectric's Android: one JSON request a line on stdin, one JSON answer a line on stdout. See jvm.py.
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession.SessionOptions
import android.content.res.AssetManager
import android.graphics.Bitmap
import android.system.Os
import io.edgepack.EdgepackBundle
import io.edgepack.EdgepackError
import io.edgepack.EdgepackSession
import io.edgepack.Tensor
import io.edgepack.image
import io.edgepack.selfTest
import java.io.File
import java.io.PrintStream
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.util.Base64
import java.util.concurrent.Callable
import java.util.concurrent.Executors
import kotlin.system.exitProcess
import org.codehaus.mojo.animal_sniffer.SignatureChecker
import org.codehaus.mojo.animal_sniffer.logging.Logger
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Test
import org.junit.runner.JUnitCore
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements

private const val OUT = "edgepack.out"

fun main() {
    System.getProperties()[OUT] = System.out
    System.setOut(System.err) // Robolectric prints
    val result = JUnitCore.runClasses(Device::class.java)
    result.failures.forEach { System.err.println(it.trace) }
    exitProcess(if (result.wasSuccessful()) 0 else 1)
}

/** One "test" that serves requests: Robolectric gives Android's classes to tests only. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], manifest = Config.NONE, shadows = [FakeOs::class])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class Device {
    @Test
    fun serve() {
        val out = System.getProperties()[OUT] as PrintStream
        for (line in generateSequence(::readLine)) {
            val answer = try {
                answer(JSONObject(line))
            } catch (e: EdgepackError) {
                error(e.kind, e)
            } catch (e: Exception) {
                error(e.javaClass.simpleName, e)
            }
            out.println(answer)
        }
    }
}

/** The desktop's environment cannot be changed from Java: keeps what was set, for the tests to see. */
@Implements(Os::class)
class FakeOs {
    companion object {
        val environment = HashMap<String, String>()

        @JvmStatic
        @Implementation
        fun setenv(name: String, value: String, overwrite: Boolean) {
            if (overwrite || name !in environment) environment[name] = value
        }
    }
}

private fun error(kind: String, e: Exception) =
    JSONObject().put("error", JSONObject().put("kind", kind).put("message", e.message.orEmpty().removePrefix("$kind: ")))

private fun answer(request: JSONObject): JSONObject = when (val task = request.getString("task")) {
    "missing-in-android" -> missingInAndroid(File(request.getString("signature")), File(request.getString("jar")))
    "environment" -> JSONObject(FakeOs.environment as Map<*, *>)
    "conformance" -> JSONObject().put("answers", conformance(File(request.getString("suite"))))
    "creation" -> creation(File(request.getString("bundle")), File(request.getString("other")))
    "image" -> bundle(request).use { image(it, request) }
    else -> bundle(request).use { bundle ->
        bundle.session(request.optJSONArray("providers")?.strings(), request.opt("threads") as? Int).use { session ->
            when (task) {
                "self-test" -> session.selfTest().put("report", session.report())
                "run" -> run(session, request.getJSONArray("inputs")).put("mapped", mapped(request))
                "stress" -> stress(bundle, session)
                "overhead" -> overhead(bundle, session, File(request.getString("model")))
                else -> throw IllegalArgumentException("unknown task $task")
            }
        }
    }
}

/** From a folder, from bytes, or from the assets of an APK (the folder's parent is then `assets/` in it). */
private fun bundle(request: JSONObject): EdgepackBundle {
    val folder = File(request.getString("bundle"))
    return when (request.optString("source", "folder")) {
        "folder" -> EdgepackBundle.open(folder)
        "bytes" -> EdgepackBundle.open("bytes") { path ->
            File(folder, path).takeIf(File::isFile)?.let { ByteBuffer.wrap(it.readBytes()) }
        }
        else -> EdgepackBundle.open(AssetManager().apply { addAssetPath(request.getString("apk")) }, folder.name)
    }
}

/** Whether the bundle's files, or the APK they are in, are mapped into this process. */
private fun mapped(request: JSONObject) =
    request.optString("apk", request.getString("bundle")).let { place -> File("/proc/self/maps").readLines().any { place in it } }

private fun run(session: EdgepackSession, inputs: JSONArray): JSONObject {
    val outputs = session.run(tensors(inputs)).map { (name, y) -> json(y).put("name", name) }
    return JSONObject().put("outputs", JSONArray(outputs)).put("report", session.report())
}

private fun json(y: Tensor) = JSONObject().put("dtype", y.dtype).put("shape", JSONArray(y.shape))
    .put("data", Base64.getEncoder().encodeToString(ByteArray(y.data.capacity()).also { y.data.duplicate().get(it) }))
    .put("floats", JSONArray(y.floats().map { if (it.isFinite()) it.toDouble() else "$it" }))

/** The input that a bitmap becomes; its pixels come as ARGB, 4 bytes each. */
private fun image(bundle: EdgepackBundle, request: JSONObject): JSONObject {
    val pixels = ByteBuffer.wrap(Base64.getDecoder().decode(request.getString("argb"))).asIntBuffer()
    val colors = IntArray(pixels.remaining()).also { pixels.get(it) }
    val width = request.getInt("width")
    val bitmap = Bitmap.createBitmap(colors, width, colors.size / width, Bitmap.Config.ARGB_8888)
    return json(bundle.image(bitmap))
}

private fun tensors(inputs: JSONArray) = inputs.objects().associate { it.getString("name") to tensor(it) }

private fun tensor(x: JSONObject): Tensor {
    val shape = x.getJSONArray("shape").let { shape -> List(shape.length()) { shape.getInt(it) } }
    val bytes = ByteBuffer.wrap(Base64.getDecoder().decode(x.getString("data")))
    return when (x.optString("made", "bytes")) {
        "floats" -> Tensor("float32", *shape.toIntArray()).apply {
            data.asFloatBuffer().put(Tensor(x.getString("dtype"), shape, bytes).floats())
        }
        "zeros" -> Tensor(x.getString("dtype"), *shape.toIntArray()).apply { data.duplicate().put(bytes) }
        else -> Tensor(x.getString("dtype"), shape, bytes)
    }
}

/** Four threads in one session; then a close under running calls of some milliseconds each. */
private fun stress(bundle: EdgepackBundle, session: EdgepackSession): JSONObject {
    val pool = Executors.newFixedThreadPool(5)
    val runs = List(4) { Callable { (0 until 10).all { session.selfTest().getBoolean("passed") } } }
    val passed = pool.invokeAll(runs).all { it.get() }
    val large = bundle.manifest.getJSONArray("inputs").objects().associate { x ->
        val shape = x.getJSONArray("shape").let { sizes -> IntArray(sizes.length()) { sizes.opt(it) as? Int ?: 1_000_000 } }
        x.getString("name") to Tensor(x.getString("dtype"), *shape)
    }
    val endless = pool.submit(Callable { while (true) session.run(large) })
    Thread.sleep(200)
    session.close()
    val ended = runCatching { endless.get() }.exceptionOrNull()?.cause?.javaClass?.simpleName
    pool.shutdown()
    return JSONObject().put("passed", passed).put("after_close", ended)
}

/** Median microseconds of one call: bare, through the loader, and through it with one tensor refilled; measured in turns. */
private fun overhead(bundle: EdgepackBundle, session: EdgepackSession, model: File): JSONObject {
    val env = OrtEnvironment.getEnvironment()
    val (input, output) = listOf("inputs", "outputs").map { bundle.manifest.getJSONArray(it).getJSONObject(0) }
    val name = input.getString("name")
    val shape = input.getJSONArray("shape").let { sizes -> IntArray(sizes.length()) { sizes.getInt(it) } }
    val values = FloatArray(shape.reduce(Int::times)) { it.toFloat() / 1000 }
    val bare = env.createSession(model.readBytes(), SessionOptions().apply { setIntraOpNumThreads(1) })
    val longs = LongArray(shape.size) { shape[it].toLong() }
    val kept = Tensor("float32", *shape)
    fun callBare(): FloatArray = OnnxTensor.createTensor(env, FloatBuffer.wrap(values), longs).use { x ->
        bare.run(mapOf(name to x)).use { y -> (y[0] as OnnxTensor).floatBuffer.array() }
    }
    fun call(x: Tensor) = session.run(mapOf(name to x.apply { data.asFloatBuffer().put(values) })).getValue(output.getString("name")).floats()
    fun callFresh() = call(Tensor("float32", *shape))
    fun callKept() = call(kept)
    val times = List(3000) { longArrayOf(time(::callBare), time(::callFresh), time(::callKept)) }.drop(1000)
    fun median(column: Int) = times.map { it[column] }.sorted()[times.size / 2] / 1000.0
    val equal = callBare().contentEquals(callFresh()) && callBare().contentEquals(callKept())
    return JSONObject().put("bare_us", median(0)).put("fresh_us", median(1)).put("kept_us", median(2)).put("equal", equal)
}

/** Microseconds for a session of each of two bundles on the CPU provider, one thread, in turn; the first rounds are warm-up. */
private fun creation(one: File, other: File): JSONObject {
    val bundles = listOf(one, other).map(EdgepackBundle::open)
    fun open(bundle: EdgepackBundle) = bundle.session(listOf("CPUExecutionProvider"), 1).close()
    val times = List(40) { bundles.map { time { open(it) } } }.drop(10)
    fun median(column: Int) = times.map { it[column] }.sorted()[times.size / 2] / 1000.0
    return JSONObject().put("bundle_us", median(0)).put("other_us", median(1))
}

private inline fun time(call: () -> Any): Long = System.nanoTime().let { start -> call(); System.nanoTime() - start }

/** What the classes in [jar] call and the Android level of [signature] does not have. */
private fun missingInAndroid(signature: File, jar: File): JSONObject {
    val missing = JSONArray()
    val log = object : Logger {
        override fun info(message: String) = Unit
        override fun info(message: String, t: Throwable) = Unit
        override fun debug(message: String) = Unit
        override fun debug(message: String, t: Throwable) = Unit
        override fun warn(message: String) = Unit
        override fun warn(message: String, t: Throwable) = Unit
        override fun error(message: String) { missing.put(message) }
        override fun error(message: String, t: Throwable) { missing.put(message) }
    }
    val others = setOf("io.edgepack.*", "kotlin.*", "ai.onnxruntime.*", "org.codehaus.*")
    SignatureChecker(signature.inputStream(), others, log).apply { setSourcePath(emptyList()) }.process(jar)
    return JSONObject().put("missing", missing)
}

private fun JSONArray.strings() = List(length()) { getString(it) }
private fun JSONArray.objects() = List(length()) { getJSONObject(it) }
