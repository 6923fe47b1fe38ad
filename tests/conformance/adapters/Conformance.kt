// Takes the suite through the Kotlin loader: `ConformanceKt SUITE`; see ../suite.py.
import io.edgepack.DirSource
import io.edgepack.EdgepackBundle
import io.edgepack.EdgepackError
import io.edgepack.EdgepackSession
import io.edgepack.Tensor
import java.io.File
import java.nio.ByteBuffer
import org.json.JSONArray
import org.json.JSONObject

fun main(arguments: Array<String>) {
    val suite = File(arguments[0])
    val answers = JSONObject()
    for (case in JSONArray(File(suite, "plan.json").readText()).objects())
        answers.put(case.getString("name"), answer(File(suite, case.getString("folder")), case.getJSONArray("calls")))
    println(answers)
}

private fun answer(folder: File, calls: JSONArray) = try {
    EdgepackBundle.open(DirSource(folder)).use { bundle ->
        bundle.session().use { session ->
            JSONObject().put("self_test", selfTest(session)).put("report", report(session))
                .put("calls", JSONArray(List(calls.length()) { call(session, calls.getJSONArray(it)) }))
        }
    }
} catch (e: EdgepackError) { error(e) }

private fun error(e: EdgepackError) =
    JSONObject().put("error", JSONObject().put("kind", e.kind).put("message", e.message))

private fun selfTest(session: EdgepackSession) = session.selfTest().let { result ->
    val cases = result.cases.map {
        JSONObject().put("case", it.case).put("output", it.output).put("from", it.from).put("passed", it.passed)
            .put("max_abs", if (it.maxAbs.isFinite()) it.maxAbs else JSONObject.NULL)
    }
    JSONObject().put("passed", result.passed).put("cases", JSONArray(cases))
}

private fun report(session: EdgepackSession) = session.report().let {
    JSONObject().put("provider", it.provider).put("passed_over", JSONObject(it.passedOver as Map<*, *>))
        .put("runtime_version", it.runtimeVersion).put("model_sha256", it.modelSha256).put("precision", it.precision)
}

private fun call(session: EdgepackSession, inputs: JSONArray) = try {
    val outputs = session.run(inputs.objects().associate { it.getString("name") to tensor(it) }).map { (name, y) ->
        val bytes = ByteArray(y.data.remaining()).also { y.data.get(it) }
        JSONObject().put("name", name).put("dtype", y.dtype).put("shape", JSONArray(y.shape.asList()))
            .put("hex", bytes.joinToString("") { "%02x".format(it) })
    }
    JSONObject().put("outputs", JSONArray(outputs))
} catch (e: EdgepackError) { error(e) }

private fun tensor(x: JSONObject): Tensor {
    val shape = x.getJSONArray("shape").let { shape -> IntArray(shape.length()) { shape.getInt(it) } }
    val bytes = x.getString("hex").chunked(2).map { it.toInt(16).toByte() }.toByteArray()
    return Tensor(x.getString("dtype"), shape, ByteBuffer.wrap(bytes))
}

private fun JSONArray.objects() = List(length()) { getJSONObject(it) }
