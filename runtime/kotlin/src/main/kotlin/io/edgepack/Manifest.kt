// What the loader reads of manifest.json.
package io.edgepack

import org.json.*

internal fun invalid(message: String): Nothing = fail("manifest-invalid", "manifest.json: $message")

/** What it lists, by path. */
internal fun JSONObject.files() = all<JSONObject>("files").associateBy { it.of<String>("path") }.onEach { (path, file) ->
  if (Regex("(.*[/\\\\])?\\.{0,2}([/\\\\].*)?").matches(path)) invalid("$path is not inside the bundle")
  if (file.of<Int>("size") < 0) invalid("$path has ${file["size"]} bytes")
  file.matching("sha256", "[0-9a-f]{64}")
}

// org.json's own getters convert types in silence; these refuse.
internal inline fun <reified T> JSONObject.of(key: String) = opt(key).need<T>(key)
internal inline fun <reified T> JSONObject.all(key: String) =
  of<JSONArray>(key).let { list -> List(list.length()) { list.opt(it).need<T>("$key[$it]") } }
internal inline fun <reified T> Any?.need(key: String) = this as? T ?: invalid("$key is $this, no ${T::class.java.simpleName}")
internal fun JSONObject.specs(key: String) = named(key).onEach { (name, spec) ->
  if (spec.of<String>("dtype") !in DTYPES) invalid("$key: dtype of '$name' is ${spec["dtype"]}")
  spec.all<Any>("shape").forEach { if (it !is String && (it as? Int ?: -1) < 0) invalid("$key: shape of '$name' has $it") }
}
internal fun JSONObject.named(key: String) = all<JSONObject>(key).associateBy { it.of<String>("name") }
internal fun JSONObject.texts(key: String) = of<JSONObject>(key).run { keys().asSequence().associateWith { of<String>(it) } }
internal fun JSONObject.matching(key: String, pattern: String) =
  of<String>(key).also { if (!Regex(pattern).matches(it)) invalid("$key is '$it'") }
