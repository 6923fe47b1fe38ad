// Takes the suite through the Kotlin loader, over the driver's Android; see ../suite.py.
import io.edgepack.EdgepackBundle
import io.edgepack.EdgepackError
import io.edgepack.EdgepackSession
import io.edgepack.Tensor
import io.edgepack.selfTest
import java.io.File
import java.nio.ByteBuffer
import org.json.JSONArray
import org.json.JSONObject

fun conformance(suite: File) = JSONObject().also { answers ->
    for (case in JSONArray(File(suite, "plan.json").readText()).objects())
        answers.put(case.getString("name"), answer(File(suite, case.getString("folder")), case.getJSONArray("calls")))
}

private fun answer(folder: File, calls: JSONArray) = try {
    EdgepackBundle.open(folder).use { bundle ->
        bundle.session().use { session ->
            JSONObject().put("self_test", session.selfTest()).put("report", session.report())
                .put("calls", JSONArray(List(calls.length()) { call(session, calls.getJSONArray(it)) }))
        }
    }
} catch (e: EdgepackError) { error(e) }

private fun error(e: EdgepackError) =
    JSONObject().put("error", JSONObject().put("kind", e.kind).put("message", e.message))

private fun call(session: EdgepackSession, inputs: JSONArray) = try {
    val outputs = session.run(inputs.objects().associate { it.getString("name") to tensor(it) }).map { (name, y) ->
        val bytes = ByteArray(y.data.remaining()).also { y.data.get(it) }
        JSONObject().put("name", name).put("dtype", y.dtype).put("shape", JSONArray(y.shape))
            .put("hex", bytes.joinToString("") { "%02x".format(it) })
    }
    JSONObject().put("outputs", JSONArray(outputs))
} catch (e: EdgepackError) { error(e) }

private fun tensor(x: JSONObject): Tensor {
    val shape = x.getJSONArray("shape").let { shape -> List(shape.length()) { shape.getInt(it) } }
    val bytes = x.getString("hex").chunked(2).map { it.toInt(16).toByte() }.toByteArray()
    return Tensor(x.getString("dtype"), shape, ByteBuffer.wrap(bytes))
}

private fun JSONArray.objects() = List(length()) { getJSONObject(it) }
