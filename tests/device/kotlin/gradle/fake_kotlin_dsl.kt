// Stands in for what Gradle's Kotlin DSL generates for a script, and for the Android plugin's own objects. The script itself is
// compiled against the real interfaces of Gradle, the Android plugin and the Kotlin plugin, and runs in a real Gradle project.
import com.android.build.api.dsl.LibraryExtension
import com.android.build.api.variant.LibraryAndroidComponentsExtension
import com.android.build.api.variant.LibraryVariant
import com.android.build.api.variant.SourceDirectories
import com.android.build.api.variant.Sources
import java.io.File
import java.lang.reflect.InvocationHandler
import java.lang.reflect.Proxy
import org.gradle.api.Action
import org.gradle.api.DefaultTask
import org.gradle.api.Project
import org.gradle.api.Task
import org.gradle.api.artifacts.dsl.DependencyHandler
import org.gradle.api.file.DirectoryProperty
import org.gradle.api.tasks.TaskCollection
import org.gradle.api.tasks.TaskContainer
import org.gradle.api.tasks.TaskProvider
import org.gradle.testfixtures.ProjectBuilder
import org.json.JSONArray
import org.json.JSONObject

class FakePlugins { fun id(@Suppress("unused") name: String) = Unit }

fun plugins(block: FakePlugins.() -> Unit) = FakePlugins().block()

/** The plugins that were applied by name, and the values that were set on the Android plugin's extension. */
val applied = mutableListOf<String>()
val values = sortedMapOf<String, Any?>()
lateinit var assets: TaskProvider<out Task>
lateinit var place: (Task) -> DirectoryProperty

@Suppress("unused") fun Project.apply(plugin: String) { applied += plugin }
fun Project.android(block: Action<LibraryExtension>) = block.execute(recording(LibraryExtension::class.java))
fun Project.dependencies(block: DependencyHandler.() -> Unit) {
    configurations.maybeCreate("implementation")
    dependencies.block()
}
fun DependencyHandler.implementation(notation: Any) = add("implementation", notation)
inline fun <reified T : Task> TaskCollection<in T>.withType(): TaskCollection<T> = withType(T::class.java)
inline fun <reified T : Task> TaskContainer.register(name: String, block: Action<T>): TaskProvider<T> =
    register(name, T::class.java, block)

/** Calls back for one variant, `release`, and keeps the task that makes its assets. */
fun Project.androidComponents(block: Action<LibraryAndroidComponentsExtension>) {
    val directories = proxy(SourceDirectories.Layered::class.java) { _, method, arguments ->
        check(method.name == "addGeneratedSourceDirectory")
        @Suppress("UNCHECKED_CAST")
        assets = arguments[0] as TaskProvider<out Task>
        @Suppress("UNCHECKED_CAST")
        place = arguments[1] as (Task) -> DirectoryProperty
        null
    }
    val sources = proxy(Sources::class.java) { _, method, _ -> directories.takeIf { method.name == "getAssets" } }
    val variant = proxy(LibraryVariant::class.java) { _, method, _ -> if (method.name == "getName") "release" else sources }
    val components = proxy(LibraryAndroidComponentsExtension::class.java) { _, method, arguments ->
        when (method.name) {
            "onVariants" -> @Suppress("UNCHECKED_CAST") (arguments.last() as (LibraryVariant) -> Unit)(variant)
            "selector" -> proxy(method.returnType) { self, _, _ -> self }
            else -> error(method.name)
        }
    }
    block.execute(components)
}

/** An object whose setters are recorded in `values`, and whose blocks are run on objects of the same kind. */
private fun <T> recording(type: Class<T>): T = proxy(type) { _, method, arguments ->
    val given = arguments.orEmpty()
    when {
        given.size == 1 && given[0] is Function1<*, *> -> {
            val receiver = method.genericParameterTypes[0].let { it as java.lang.reflect.ParameterizedType }.actualTypeArguments[0]
            val wanted = (receiver as? java.lang.reflect.WildcardType)?.lowerBounds?.first() ?: receiver
            @Suppress("UNCHECKED_CAST")
            (given[0] as (Any?) -> Any?)(recording(wanted as Class<*>))
        }
        given.isNotEmpty() -> values[method.name] = given.single().let { if (it is Array<*>) it.single() else it }.toString()
    }
    null
}

@Suppress("UNCHECKED_CAST")
private fun <T> proxy(type: Class<T>, handler: InvocationHandler): T =
    Proxy.newProxyInstance(type.classLoader, arrayOf(type), handler) as T

fun main(arguments: Array<String>) {
    val project = ProjectBuilder.builder().withProjectDir(File(arguments[0])).withGradleUserHomeDir(File(arguments[1])).build()
    project.script()
    val task = assets.get()
    val folder = place(task).apply { set(File(arguments[2])) }.get().asFile
    task.actions.forEach { it.execute(task) }
    val found = folder.walk().filter { it.isFile }.map { it.relativeTo(folder).path }.sorted().toList()
    val needed = project.configurations.getByName("implementation").dependencies.map { "${it.group}:${it.name}:${it.version}" }
    println(
        JSONObject().put("applied", JSONArray(applied)).put("android", JSONObject(values as Map<*, *>))
            .put("dependencies", JSONArray(needed)).put("task", task.name).put("assets", JSONArray(found)),
    )
}
