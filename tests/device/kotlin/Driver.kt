// Runs the loader on the JVM: one JSON request a line on stdin, one JSON answer a line on stdout. See jvm.py.
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession.SessionOptions
import android.content.res.AssetManager
import android.system.Os
import io.edgepack.AssetSource
import io.edgepack.BundleSource
import io.edgepack.DirSource
import io.edgepack.EdgepackBundle
import io.edgepack.EdgepackError
import io.edgepack.EdgepackSession
import io.edgepack.Tensor
import java.io.File
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.util.Base64
import java.util.concurrent.Callable
import java.util.concurrent.Executors
import org.codehaus.mojo.animal_sniffer.SignatureChecker
import org.codehaus.mojo.animal_sniffer.logging.Logger
import org.json.JSONArray
import org.json.JSONObject

fun main() {
    for (line in generateSequence(::readLine)) {
        val answer = try {
            answer(JSONObject(line))
        } catch (e: EdgepackError) {
            error(e.kind, e)
        } catch (e: Exception) {
            error(e.javaClass.simpleName, e)
        }
        println(answer)
    }
}

private fun error(kind: String, e: Exception) =
    JSONObject().put("error", JSONObject().put("kind", kind).put("message", e.message.orEmpty().removePrefix("$kind: ")))

private fun answer(request: JSONObject): JSONObject = when (val task = request.getString("task")) {
    "missing-in-android" -> missingInAndroid(File(request.getString("signature")), File(request.getString("jar")))
    "environment" -> JSONObject(Os.environment as Map<*, *>)
    else -> bundle(request).use { bundle ->
        bundle.session(request.optJSONArray("providers")?.strings(), request.opt("threads") as? Int).use { session ->
            when (task) {
                "self-test" -> selfTest(session)
                "run" -> run(session, request.getJSONArray("inputs"))
                "stress" -> stress(bundle, session)
                "overhead" -> overhead(bundle, session, File(request.getString("model")))
                else -> throw IllegalArgumentException("unknown task $task")
            }
        }
    }
}

private fun bundle(request: JSONObject): EdgepackBundle {
    val folder = File(request.getString("bundle"))
    return EdgepackBundle.open(
        when (request.optString("source", "folder")) {
            "folder" -> DirSource(folder)
            "heap" -> BundleSource { File(folder, it).takeIf(File::isFile)?.let { file -> ByteBuffer.wrap(file.readBytes()) } }
            "assets" -> AssetSource(AssetManager(folder.parentFile, compressed = false), folder.name)
            else -> AssetSource(AssetManager(folder.parentFile, compressed = true), folder.name)
        },
    )
}

private fun selfTest(session: EdgepackSession): JSONObject {
    val result = session.selfTest()
    val cases = result.cases.map {
        JSONObject().put("case", it.case).put("output", it.output).put("from", it.from)
            .put("max_abs", if (it.maxAbs.isFinite()) it.maxAbs else JSONObject.NULL)
            .put("atol", it.atol).put("rtol", it.rtol).put("passed", it.passed)
    }
    return JSONObject().put("passed", result.passed).put("cases", JSONArray(cases)).put("report", report(session))
}

private fun report(session: EdgepackSession) = session.report().let {
    JSONObject().put("provider", it.provider).put("proven", it.proven).put("passed_over", JSONObject(it.passedOver as Map<*, *>))
        .put("runtime_version", it.runtimeVersion).put("model_sha256", it.modelSha256).put("precision", it.precision)
}

private fun run(session: EdgepackSession, inputs: JSONArray): JSONObject {
    val outputs = session.run(inputs.objects().associate { it.getString("name") to tensor(it) })
    val tensors = outputs.map { (name, y) ->
        JSONObject().put("name", name).put("dtype", y.dtype).put("shape", JSONArray(y.shape.asList()))
            .put("data", Base64.getEncoder().encodeToString(ByteArray(y.data.remaining()).also { y.data.get(it) }))
            .put("floats", JSONArray(y.floats().map { if (it.isFinite()) it.toDouble() else "$it" }))
    }
    return JSONObject().put("outputs", JSONArray(tensors)).put("report", report(session))
}

private fun tensor(x: JSONObject): Tensor {
    val shape = x.getJSONArray("shape").let { shape -> IntArray(shape.length()) { shape.getInt(it) } }
    val bytes = ByteBuffer.wrap(Base64.getDecoder().decode(x.getString("data")))
    return when (x.optString("made", "constructor")) {
        "of" -> Tensor.of(Tensor(x.getString("dtype"), shape, bytes).floats(), *shape)
        "zeros" -> Tensor.zeros(x.getString("dtype"), *shape).apply { data.put(bytes) }
        else -> Tensor(x.getString("dtype"), shape, bytes)
    }
}

/** Four threads in one session; then a close under running calls of some milliseconds each. */
private fun stress(bundle: EdgepackBundle, session: EdgepackSession): JSONObject {
    val pool = Executors.newFixedThreadPool(5)
    val passed = pool.invokeAll(List(4) { Callable { (0 until 10).all { session.selfTest().passed } } }).all { it.get() }
    val large = bundle.inputs.associate { x ->
        x.name to Tensor.zeros(x.dtype, *x.shape.map { it as? Int ?: 1_000_000 }.toIntArray())
    }
    val endless = pool.submit(Callable { while (true) session.run(large) })
    Thread.sleep(200)
    session.close()
    val ended = runCatching { endless.get() }.exceptionOrNull()?.cause?.javaClass?.simpleName
    pool.shutdown()
    return JSONObject().put("passed", passed).put("after_close", ended)
}

/** Median microseconds of one call, bare and through the loader, measured in turns on one float input. */
private fun overhead(bundle: EdgepackBundle, session: EdgepackSession, model: File): JSONObject {
    val env = OrtEnvironment.getEnvironment()
    val spec = bundle.inputs.single()
    val shape = spec.shape.map { it as Int }.toIntArray()
    val values = FloatArray(shape.reduce(Int::times)) { it.toFloat() / 1000 }
    val bare = env.createSession(model.readBytes(), SessionOptions())
    val longs = LongArray(shape.size) { shape[it].toLong() }
    fun callBare(): FloatArray = OnnxTensor.createTensor(env, FloatBuffer.wrap(values), longs).use { x ->
        bare.run(mapOf(spec.name to x)).use { y -> (y[0] as OnnxTensor).floatBuffer.array() }
    }
    fun callLoader() = session.run(mapOf(spec.name to Tensor.of(values, *shape))).getValue(bundle.outputs[0].name).floats()
    val times = List(4000) { longArrayOf(time(::callBare), time(::callLoader)) }.drop(2000)
    fun median(column: Int) = times.map { it[column] }.sorted()[times.size / 2] / 1000.0
    return JSONObject().put("bare_us", median(0)).put("loader_us", median(1)).put("equal", callBare().contentEquals(callLoader()))
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
