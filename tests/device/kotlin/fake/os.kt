package android.system

/** Keeps what was set, for the tests to see. */
object Os {
    val environment = HashMap<String, String>()

    @JvmStatic
    fun setenv(name: String, value: String, overwrite: Boolean) {
        if (overwrite || name !in environment) environment[name] = value
    }
}
