// The golden cases, on the phone. A release that leaves out golden/ does without this file.
package io.edgepack

import kotlin.math.*
import org.json.*

/** The golden run: `passed`, and each comparison in `cases`. A miss is not thrown. */
fun EdgepackSession.selfTest(): JSONObject {
  val cases = bundle.manifest.all<JSONObject>("golden").flatMap { case ->
    val answers = run(case.named("inputs").mapValues { bundle.tensor(it.value) })
    case.all<JSONObject>("expect").map { compare(answers[it.of("name")], bundle.tensor(it), it).put("case", case["name"]) }
  }
  return JSONObject().put("passed", cases.isNotEmpty() && cases.all { it.of("passed") }).put("cases", JSONArray(cases))
}

private fun EdgepackBundle.tensor(json: JSONObject) = Tensor(json.of("dtype"), json.all("shape"), read(json.of("path")))

private fun compare(y: Tensor?, wanted: Tensor, expect: JSONObject): JSONObject {
  val (atol, rtol) = listOf("atol", "rtol").map { expect.of<Number>(it).toDouble() }
  var passed = y?.dtype == wanted.dtype && y.shape == wanted.shape
  var worst = if (passed) 0.0 else Double.NaN
  if (passed) for (i in 0 until wanted.size) if (y!![i] != wanted[i]) {
    val (a, b) = Pair(y[i], wanted[i])
    val miss = if (a is Long && b is Long) (if (a > b) a - b else b - a).toULong().toDouble() // exactly
      else abs(a.toDouble() - b.toDouble())
    passed = passed && miss.isFinite() && miss <= atol + rtol * abs(b.toDouble())
    worst = max(worst, miss)
  }
  return JSONObject(expect, arrayOf("from", "atol", "rtol")).put("output", expect["name"]).put("passed", passed)
    .put("max_abs", if (worst.isFinite()) worst else JSONObject.NULL)
}
