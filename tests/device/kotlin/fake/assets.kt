// Stands in for Android's own classes where the loader runs on the JVM; the same names and signatures.
package android.content.res

import java.io.Closeable
import java.io.File
import java.io.FileDescriptor
import java.io.FileInputStream
import java.io.FileNotFoundException
import java.io.InputStream

/** Assets below [folder]; [compressed] ones have no file descriptor, as in an APK. */
class AssetManager(private val folder: File, private val compressed: Boolean) {
    fun open(path: String): InputStream = FileInputStream(File(folder, path))

    fun openFd(path: String): AssetFileDescriptor {
        if (compressed) throw FileNotFoundException("$path: it is probably compressed")
        return AssetFileDescriptor(File(folder, path).readBytes())
    }
}

/** [content] in the middle of a larger file, 4 bytes in: an APK aligns what it stores to 4 bytes, not to 8. */
class AssetFileDescriptor(content: ByteArray) : Closeable {
    private val stream = FileInputStream(
        File.createTempFile("apk", null).apply { deleteOnExit(); writeBytes(ByteArray(4) { 1 } + content + ByteArray(9) { 2 }) },
    )
    val startOffset = 4L
    val declaredLength = content.size.toLong()
    val fileDescriptor: FileDescriptor get() = stream.fd

    override fun close() = stream.close()
}
