// Images as inputs, by the manifest's preprocessing (edgepack's runtime/README.md has each field). An app without
// images needs neither this file nor AppleImages.swift.
import Foundation

/// What manifest.json says of it, in the order of its inputs.
private struct Ways: Decodable {
  struct Input: Decodable { let preprocessing: Preprocessing? }
  let inputs: [Input]
}

private struct Preprocessing: Decodable {
  enum Resize: String, Decodable { case stretch, crop, letterbox }
  enum Interpolation: String, Decodable { case nearest, area, bilinear, bicubic, lanczos }
  enum Channels: String, Decodable { case gray, rgb, bgr, rgba }
  enum Layout: String, Decodable { case nhwc, nchw, hw }
  let height, width: Int, resize: Resize, shorter_side: Int?, interpolation: Interpolation
  let channels: Channels, layout: Layout, scale: Double, mean, std: [Double], pad: [UInt8]
}

extension EdgepackBundle {
  /// The input that takes images, for one of red, green, blue, alpha, a byte each. Resized as Pillow does.
  public func image(rgba: [UInt8], width: Int, height: Int) throws -> Tensor {
    let ways = (try? Ways(json: json))?.inputs ?? []
    let ready = zip(manifest.inputs, ways).first { $1.preprocessing != nil }
    guard let spec = ready?.0, let way = ready?.1.preprocessing else {
      try fail("manifest-invalid", "manifest.json does not say how an image becomes an input")
    }
    guard width > 0, height > 0, rgba.count == 4 * width * height else {
      try fail("shape-mismatch", "\(rgba.count) bytes do not fill \(width)×\(height) pixels")
    }
    return try way.tensor(spec, rgba, width, height)
  }
}

extension Preprocessing {
  fileprivate func tensor(_ spec: TensorSpec, _ rgba: [UInt8], _ imageWidth: Int, _ imageHeight: Int) throws -> Tensor {
    let sources = [Channels.gray: [0], .rgb: [0, 1, 2], .bgr: [2, 1, 0], .rgba: [0, 1, 2, 3]][channels]!
    let n = sources.count
    guard mean.count == n, std.count == n, pad.count == 3 else {
      try fail("manifest-invalid", "manifest.json: \(spec.name): preprocessing is not for \(channels)")
    }
    func level(_ pixels: [UInt8], _ start: Int, _ c: Int) -> Int {
      if channels != .gray { return Int(pixels[start + sources[c]]) }
      return (19595 * Int(pixels[start]) + 38470 * Int(pixels[start + 1]) + 7471 * Int(pixels[start + 2]) + 32768) >> 16
    }
    let scaled = scaledSize(imageWidth, imageHeight)
    let columns = (0..<width).map { taps($0, of: width, imageWidth, scaled.width) }
    let rows = (0..<height).map { taps($0, of: height, imageHeight, scaled.height) }
    // As Pillow 13 does; what is rounded in between is then another pixel's.
    let heightFirst = scaled.height < imageHeight && imageHeight - scaled.height > 2 * (imageWidth - scaled.width)
    let (first, lines) = heightFirst ? (rows, imageWidth) : (columns, imageHeight)
    var between = [UInt8](repeating: 0, count: first.count * lines * n)
    for (i, tap) in first.enumerated() {
      for line in 0..<lines {
        for c in 0..<n {
          between[(i * lines + line) * n + c] = tap.sum {
            level(rgba, 4 * (heightFirst ? $0 * imageWidth + line : line * imageWidth + $0), c)
          }
        }
      }
    }
    let values = zip(mean, std).map { mean, std in (0..<256).map { Float((Double($0) * scale - mean) / std) } }
    let padding = pad + [255], meanPad = Int((Double(pad.reduce(0) { $0 + Int($1) }) / 3).rounded(.toNearestOrEven))
    var tensor = [Float](repeating: 0, count: width * height * n)
    for (y, row) in rows.enumerated() {
      for (x, column) in columns.enumerated() {
        for c in 0..<n {
          let outside = row.weights.isEmpty || column.weights.isEmpty
          let empty = channels == .gray ? meanPad : level(padding, 0, c)
          let (i, second) = heightFirst ? (y, column) : (x, row)
          let found = outside ? empty : Int(second.sum { Int(between[(i * lines + $0) * n + c]) })
          tensor[layout == .nchw ? (c * height + y) * width + x : (y * width + x) * n + c] = values[c][found]
        }
      }
    }
    let axes = [Layout.nhwc: [height, width, n], .nchw: [n, height, width], .hw: [height, width]][layout]!
    let shape = Array(repeating: 1, count: max(0, spec.shape.count - axes.count)) + axes
    switch spec.dtype {
    case .float32: return try Tensor(tensor, shape: shape)
    case .uint8: return try Tensor(tensor.map { UInt8(max(0, min(255, $0))) }, shape: shape)
    case .int8: return try Tensor(tensor.map { Int8(max(-128, min(127, $0))) }, shape: shape)
    default: try fail("dtype-mismatch", "\(spec): an image does not become one")
    }
  }

  /// Of the whole image, before what lies outside of the frame is cut off or what it leaves is padded.
  private func scaledSize(_ w: Int, _ h: Int) -> (width: Int, height: Int) {
    if resize == .stretch { return (width, height) }
    if let side = shorter_side { return (side * w / min(w, h), side * h / min(w, h)) }
    let x = Double(width) / Double(w), y = Double(height) / Double(h), ratio = resize == .crop ? max(x, y) : min(x, y)
    func scaled(_ side: Int) -> Int { max(1, Int((Double(side) * ratio).rounded(.toNearestOrEven))) }
    return (scaled(w), scaled(h))
  }

  /// What goes into a place of the frame, of `count` pixels scaled to `size` in its middle; nothing: it lies outside.
  /// Source: Pillow, src/libImaging/Resample.c, precompute_coeffs and normalize_coeffs_8bpc.
  private func taps(_ place: Int, of frame: Int, _ count: Int, _ size: Int) -> Taps {
    let i = place - (size > frame ? -((size - frame + 1) / 2) : (frame - size) / 2)
    guard (0..<size).contains(i) else { return Taps(first: 0, weights: []) }
    let step = Double(count) / Double(size), center = (Double(i) + 0.5) * step, stretch = max(step, 1)
    guard let (reach, kernel) = kernel else { return Taps(first: (2 * i + 1) * count / (2 * size), weights: [1 << 22]) }
    let first = max(0, Int(center - reach * stretch + 0.5)), end = min(count, Int(center + reach * stretch + 0.5))
    let weights = (first..<end).map { kernel((Double($0) + 0.5 - center) / stretch) }, sum = weights.reduce(0, +)
    return Taps(first: first, weights: weights.map { Int(($0 / sum * 0x1p22).rounded()) })
  }

  private var kernel: (reach: Double, (Double) -> Double)? {
    func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(.pi * x) / (.pi * x) }
    func cubic(_ x: Double) -> Double {
      x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0
    }
    switch interpolation {
    case .nearest: return nil
    case .area: return (0.5, { -0.5 < $0 && $0 <= 0.5 ? 1 : 0 })
    case .bilinear: return (1, { max(0, 1 - abs($0)) })
    case .bicubic: return (2, { cubic(abs($0)) })
    case .lanczos: return (3, { -3 <= $0 && $0 < 3 ? sinc($0) * sinc($0 / 3) : 0 })
    }
  }
}

/// The pixels from `first` on by their weights, in 1 / 2²².
private struct Taps {
  let first: Int, weights: [Int]

  func sum(_ level: (Int) -> Int) -> UInt8 {
    var sum = 1 << 21
    for (k, weight) in weights.enumerated() { sum += weight * level(first + k) }
    return UInt8(clamping: sum >> 22)
  }
}
