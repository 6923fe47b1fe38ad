// fake: what the loader takes of Apple's Core Graphics, with its signatures and nothing behind them, so that the file which only
// Apple's platforms compile is type-checked here. Source: Apple's documentation of each name.
@_exported import Foundation

public final class CGImage {
    public var width: Int { fatalError("fake") }
    public var height: Int { fatalError("fake") }
}

public final class CGColorSpace {
    public class var sRGB: CFString { fatalError("fake") }
    public init?(name: CFString) { return nil }
}

public final class CFString {}
public final class CFDictionary {}

public enum CGImageAlphaInfo: UInt32 { case none, premultipliedLast, premultipliedFirst, last, first, noneSkipLast }

public final class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: UInt32
    ) { return nil }
    public func draw(_ image: CGImage, in rect: CGRect) {}
}
