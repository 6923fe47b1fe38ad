#if canImport(VideoToolbox)
import CoreGraphics
import VideoToolbox

extension EdgepackBundle {
  /// The input that takes images, for this one in sRGB; what is transparent counts as black.
  public func image(_ image: CGImage) throws -> Tensor {
    let (width, height) = (image.width, image.height)
    var pixels = [UInt8](repeating: 0, count: 4 * width * height)
    pixels.withUnsafeMutableBytes {
      let context = CGContext(
        data: $0.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
        space: CGColorSpace(name: CGColorSpace.sRGB)!, bitmapInfo: CGImageAlphaInfo.premultipliedLast.rawValue)
      context?.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
    }
    return try self.image(rgba: pixels, width: width, height: height)
  }

  /// The same, for a frame of a camera or video, which is upright.
  public func image(_ buffer: CVPixelBuffer) throws -> Tensor {
    var made: CGImage?
    let status = VTCreateCGImageFromCVPixelBuffer(buffer, options: nil, imageOut: &made)
    guard let image = made else { try fail("dtype-mismatch", "a pixel buffer without image: VideoToolbox \(status)") }
    return try self.image(image)
  }
}
#endif
