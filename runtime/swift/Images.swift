import Foundation

/// How an image becomes an input, as its manifest says.
struct Preprocessing: Decodable {
  enum Resize: String, Decodable { case stretch, crop, letterbox }
  enum Channels: String, Decodable { case gray, rgb, bgr, rgba }
  enum Layout: String, Decodable { case nhwc, nchw, hw }
  let height, width: Int, resize: Resize, shorter_side: Int?, interpolation: String, channels: Channels, layout: Layout
  let scale: Double, mean, std: [Double], pad: [Int]

  /// Where the whole image lies in the frame of `width` × `height`, in pixels from the top left.
  func place(of image: (width: Int, height: Int)) -> (left: Int, top: Int, width: Int, height: Int) {
    if resize == .stretch { return (0, 0, width, height) }
    let ratios = [Double(width) / Double(image.width), Double(height) / Double(image.height)]
    let ratio = resize == .crop ? ratios.max()! : ratios.min()!, shorter = min(image.width, image.height)
    func scaled(_ side: Int) -> Int {
      shorter_side.map { $0 * side / shorter } ?? max(1, Int((Double(side) * ratio).rounded(.toNearestOrEven)))
    }
    func start(_ frame: Int, _ size: Int) -> Int { size > frame ? -((size - frame + 1) / 2) : (frame - size) / 2 }
    let w = scaled(image.width), h = scaled(image.height)
    return (start(width, w), start(height, h), w, h)
  }

  /// The input for the frame's pixels: red, green, blue, alpha, a byte each.
  func tensor(_ spec: TensorSpec, rgba: [UInt8]) throws -> Tensor {
    let order = [Channels.gray: [0], .rgb: [0, 1, 2], .bgr: [2, 1, 0], .rgba: [0, 1, 2, 3]][channels]!
    let area = width * height, count = order.count, (pixel, channel) = layout == .nchw ? (1, area) : (count, 1)
    let levels = zip(mean, std).map { mean, std in (0..<256).map { Float((Double($0) * scale - mean) / std) } }
    var values = [Float](repeating: 0, count: area * count)
    for p in 0..<area {
      for (c, source) in order.enumerated() {
        var x = Int(rgba[4 * p + source])
        if channels == .gray { x = (19595 * x + 38470 * Int(rgba[4 * p + 1]) + 7471 * Int(rgba[4 * p + 2]) + 32768) >> 16 }
        values[p * pixel + c * channel] = levels[c][x]
      }
    }
    let axes = [Layout.nhwc: [height, width, count], .nchw: [count, height, width], .hw: [height, width]][layout]!
    let shape = Array(repeating: 1, count: max(0, spec.shape.count - axes.count)) + axes
    switch spec.dtype {
    case .float32: return try Tensor(values, shape: shape)
    case .uint8: return try Tensor(values.map { UInt8(max(0, min(255, $0))) }, shape: shape)
    case .int8: return try Tensor(values.map { Int8(max(-128, min(127, $0))) }, shape: shape)
    default: throw EdgepackError("dtype-mismatch", "\(spec): images become float32, uint8 or int8")
    }
  }
}

#if canImport(VideoToolbox)
import CoreGraphics
import VideoToolbox

extension EdgepackBundle {
  /// `image` as the model's first input, resized by Core Graphics; where the model takes alpha, premultiplied.
  public func image(_ image: CGImage) throws -> Tensor {
    guard let spec = inputs.first, let way = spec.preprocessing else {
      throw EdgepackError("manifest-invalid", "manifest.json does not say how an image becomes an input")
    }
    var pixels = [UInt8](repeating: 0, count: 4 * way.width * way.height)
    let alpha = way.channels == .rgba ? CGImageAlphaInfo.premultipliedLast : .noneSkipLast
    pixels.withUnsafeMutableBytes { memory in
      let context = CGContext(
        data: memory.baseAddress, width: way.width, height: way.height, bitsPerComponent: 8, bytesPerRow: 4 * way.width,
        space: CGColorSpace(name: CGColorSpace.sRGB)!, bitmapInfo: alpha.rawValue)!
      let pad = way.pad.map { CGFloat($0) / 255 }, place = way.place(of: (image.width, image.height))
      context.setFillColor(red: pad[0], green: pad[1], blue: pad[2], alpha: 1)
      context.fill(CGRect(x: 0, y: 0, width: way.width, height: way.height))
      context.interpolationQuality = way.interpolation == "nearest" ? .none : .high
      let bottom = way.height - place.top - place.height  // Core Graphics counts from there
      context.draw(image, in: CGRect(x: place.left, y: bottom, width: place.width, height: place.height))
    }
    return try way.tensor(spec, rgba: pixels)
  }

  /// A camera's or video's frame, upright.
  public func image(_ buffer: CVPixelBuffer) throws -> Tensor {
    var image: CGImage?
    VTCreateCGImageFromCVPixelBuffer(buffer, options: nil, imageOut: &image)
    guard let image else { throw EdgepackError("dtype-mismatch", "no image in the pixel buffer") }
    return try self.image(image)
  }
}
#endif
