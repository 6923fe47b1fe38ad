import Foundation

/// Element types, by the manifest's words.
public enum DType: String, Decodable, Sendable {
  case float32, float16, float64, int8, uint8, int16, uint16, int32, uint32, int64, uint64, bool

  /// Bytes per element.
  public var size: Int { (Int(rawValue.drop { $0.isLetter }) ?? 8) / 8 }

  /// ONNX's number for it.
  var code: UInt32 {
    switch self {
    case .float32: 1; case .uint8: 2; case .int8: 3; case .uint16: 4; case .int16: 5; case .int32: 6; case .int64: 7
    case .bool: 9; case .float16: 10; case .float64: 11; case .uint32: 12; case .uint64: 13
    }
  }

  /// That of a Swift type; Int has none.
  init(of type: Any.Type) throws {
    let name = "\(type)", word = ["Float": "float32", "Double": "float64"][name] ?? name.lowercased()
    guard let dtype = DType(rawValue: word) else { throw EdgepackError("dtype-mismatch", "no tensor holds \(name)") }
    self = dtype
  }
}

/// An input or output. A free size may be any, but within one call the same for the same name.
public struct TensorSpec: Decodable, Sendable, CustomStringConvertible {
  public enum Size: Decodable, Sendable, CustomStringConvertible {
    case fixed(Int), free(String)

    public init(from json: any Decoder) throws {
      let value = try json.singleValueContainer()
      if let name = try? value.decode(String.self) {
        self = .free(name)
      } else if let size = try? value.decode(Int.self), size >= 0 {
        self = .fixed(size)
      } else {
        throw DecodingError.dataCorruptedError(in: value, debugDescription: "is neither a size nor a name")
      }
    }
    var fixed: Int? { if case .fixed(let size) = self { size } else { nil } }
    public var description: String { switch self { case .fixed(let size): "\(size)"; case .free(let name): name } }
  }
  public let name: String, dtype: DType, shape: [Size]
  let path, from: String?, atol, rtol: Double?, preprocessing: Preprocessing?
  public var description: String { "'\(name)' \(dtype) \(shape)" }

  /// `free`: the free sizes met so far in the call.
  func fits(_ given: [Int], _ free: inout [String: Int]) -> Bool {
    for (size, wanted) in zip(given, shape) {
      switch wanted {
      case .fixed(let fixed): if size != fixed { return false }
      case .free(let name): if free[name, default: size] != size { return false } else { free[name] = size }
      }
    }
    return given.count == shape.count
  }
}

/// Row-major, little-endian values that fill `shape`; a scalar has the shape `[]`, a bool is one byte, 0 or 1.
public struct Tensor: Sendable, Equatable {
  public let dtype: DType, shape: [Int], data: Data

  public init(dtype: DType, shape: [Int], data: Data) { (self.dtype, self.shape, self.data) = (dtype, shape, data) }

  /// Of the values' own dtype: float32 from `[Float]`, uint8 from `[UInt8]`, …
  public init<T>(_ values: [T], shape: [Int]) throws {
    self.init(dtype: try DType(of: T.self), shape: shape, data: values.withUnsafeBytes { Data($0) })
  }

  /// The values of a tensor of `T`'s dtype.
  public func values<T>(_: T.Type = T.self) throws -> [T] {
    guard try DType(of: T.self) == dtype else { throw EdgepackError("dtype-mismatch", "\(dtype) is not \(T.self)") }
    return [T](unsafeUninitializedCapacity: data.count / dtype.size) { $1 = data.copyBytes(to: $0) / dtype.size }
  }

  /// The values of any dtype.
  public var floats: [Float] { (try? values()) ?? doubles.map { Float($0) } }

  /// In Double, since a hostile shape overflows Int.
  var isFull: Bool {
    shape.allSatisfy { $0 >= 0 } && shape.reduce(Double(dtype.size)) { $0 * Double($1) } == Double(data.count)
  }

  /// The largest |a − b| of an answer and this expectation, and whether all are ≤ atol + rtol·|b|.
  func compare(_ answer: Tensor?, _ atol: Double, _ rtol: Double) -> (maxAbs: Double, passed: Bool) {
    guard let answer, answer.dtype == dtype, answer.shape == shape, isFull else { return (.nan, false) }
    var maxAbs = 0.0, passed = true
    for (a, b) in zip(answer.doubles, doubles) where a != b && !(a.isNaN && b.isNaN) {
      let miss = (a - b).isNaN ? .infinity : abs(a - b)
      (maxAbs, passed) = (max(maxAbs, miss), passed && miss.isFinite && miss <= atol + rtol * abs(b))
    }
    return (maxAbs, passed)
  }

  private var doubles: [Double] {
    let size = dtype.size, unused = UInt64(64 - 8 * size)
    return stride(from: data.startIndex, to: data.endIndex, by: size).map { start in
      let bits = data[start..<start + size].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      switch dtype {
      case .float64: return Double(bitPattern: bits)
      case .float32: return Double(Float(bitPattern: UInt32(bits)))
      case .float16:  // moved to where a Float has its bits; Intel Macs have no Float16
        let float = UInt32(bits & 0x7fff) << 13, isFinite = bits & 0x7c00 < 0x7c00
        let size = isFinite ? Float(bitPattern: float) * 0x1p112 : Float(bitPattern: float | 0x7f80_0000)
        return Double(bits >> 15 == 0 ? size : -size)
      case .int8, .int16, .int32, .int64: return Double(Int64(bitPattern: bits << unused) >> unused)
      default: return Double(bits)
      }
    }
  }
}
