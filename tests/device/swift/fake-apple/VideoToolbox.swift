// fake: see CoreGraphics.swift.
import CoreGraphics

public final class CVPixelBuffer {}
public typealias OSStatus = Int32

@discardableResult
public func VTCreateCGImageFromCVPixelBuffer(
    _ pixelBuffer: CVPixelBuffer, options: CFDictionary?, imageOut: UnsafeMutablePointer<CGImage?>
) -> OSStatus { fatalError("fake") }
