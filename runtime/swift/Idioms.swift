// What Swift apps like besides: arrays for tensors, `await`, the bundle that is the package. Images.swift and
// SelfTest.swift need it; an app that deals in `Tensor.data` can do without all three.
import Foundation

#if SWIFT_PACKAGE
extension EdgepackBundle {
  /// The bundle that is this Swift package, out of the app's resources.
  public static func open() throws -> Self { try open(Bundle.module.resourceURL!) }
}
#endif

extension EdgepackSession {
  /// The same as without `await`, which here holds no thread of the caller.
  public func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
    try await withCheckedThrowingContinuation { done in
      DispatchQueue.global().async { done.resume(with: Result { try self.run(inputs) }) }
    }
  }
}

extension DType {
  /// That of a Swift type; Int has none.
  init(of type: Any.Type) throws {
    let name = "\(type)", word = ["Float": "float32", "Double": "float64"][name] ?? name.lowercased()
    guard let dtype = DType(rawValue: word) else { try fail("dtype-mismatch", "no tensor holds \(name)") }
    self = dtype
  }
}

extension Tensor {
  /// Of the values' own dtype: float32 from `[Float]`, uint8 from `[UInt8]`, …
  public init<T>(_ values: [T], shape: [Int]) throws {
    try self.init(dtype: DType(of: T.self), shape: shape, data: values.withUnsafeBytes { Data($0) })
  }

  /// The values of a tensor of `T`'s dtype.
  public func values<T>(_: T.Type = T.self) throws -> [T] {
    if try DType(of: T.self) != dtype { try fail("dtype-mismatch", "\(dtype) is not \(T.self)") }
    return bits()
  }

  /// The values of any dtype.
  public var floats: [Float] { (try? values()) ?? doubles.map { Float($0) } }

  var doubles: [Double] {
    func whole<T: BinaryInteger>(_: T.Type) -> [Double] { bits(T.self).map { Double($0) } }
    return switch dtype {
    case .float64: bits()
    case .float32: bits(Float.self).map { Double($0) }
    case .float16: bits().map(half)
    case .int8: whole(Int8.self)
    case .int16: whole(Int16.self)
    case .int32: whole(Int32.self)
    case .int64: whole(Int64.self)
    case .uint8, .bool: whole(UInt8.self)
    case .uint16: whole(UInt16.self)
    case .uint32: whole(UInt32.self)
    case .uint64: whole(UInt64.self)
    }
  }

  private func bits<T>(_: T.Type = T.self) -> [T] {
    [T](unsafeUninitializedCapacity: data.count / dtype.size) { $1 = data.copyBytes(to: $0) / dtype.size }
  }
}

/// A float16, its bits moved to where a Float has them: Intel Macs have no Float16.
private func half(_ bits: UInt16) -> Double {
  let size = Double(Float(bitPattern: UInt32(bits & 0x7fff) << 13) * 0x1p112)
  return (bits < 0x8000 ? 1 : -1) * (size < 65536 ? size : size == 65536 ? .infinity : .nan)
}
