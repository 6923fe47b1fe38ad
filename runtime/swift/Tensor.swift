/// Element types, by the manifest's words.
public enum DType: String, Decodable, Sendable {
    case float32, float16, float64, int8, uint8, int16, uint16, int32, uint32, int64, uint64, bool

    /// Bytes per element.
    public var size: Int {
        switch self {
        case .bool, .int8, .uint8: 1
        case .float16, .int16, .uint16: 2
        case .float32, .int32, .uint32: 4
        case .float64, .int64, .uint64: 8
        }
    }
}

/// An input or output of a model. A `.free` size may be any, but within one call the same for the same name.
public struct TensorSpec: Decodable, Sendable, CustomStringConvertible {
    public enum Size: Decodable, Sendable, CustomStringConvertible {
        case fixed(Int), free(String)

        public init(from json: any Decoder) throws {
            let value = try json.singleValueContainer()
            if let size = try? value.decode(UInt32.self) {
                self = .fixed(Int(size))
            } else if let name = try? value.decode(String.self) {
                self = .free(name)
            } else {
                throw DecodingError.dataCorruptedError(in: value, debugDescription: "is neither a size nor a name")
            }
        }
        public var description: String { switch self { case .fixed(let size): "\(size)"; case .free(let name): name } }
    }
    public let name: String, dtype: DType, shape: [Size]
    public var description: String { "'\(name)' \(dtype) \(shape)" }

    /// Whether `given` is such a shape; `free` holds the free sizes met so far in the call.
    func fits(_ given: [Int], _ free: inout [String: Int]) -> Bool {
        guard given.count == shape.count else { return false }
        for (size, expected) in zip(given, shape) {
            switch expected {
            case .fixed(let fixed): if size != fixed { return false }
            case .free(let name): if free[name, default: size] != size { return false } else { free[name] = size }
            }
        }
        return true
    }
}

/// Row-major values that fill `shape`; a scalar has the shape `[]`.
public struct Tensor: Sendable, Equatable {
    public let dtype: DType, shape: [Int]
    /// Little-endian; a bool is one byte, 0 or 1.
    public let data: [UInt8]

    /// Any dtype, from bytes. float16 is made this way: `[Float16]` through `withUnsafeBytes`.
    public init(dtype: DType, shape: [Int], data: some Sequence<UInt8>) {
        (self.dtype, self.shape, self.data) = (dtype, shape, Array(data))
    }
    /// Of the values' own dtype: float32 from `[Float]`, uint8 from `[UInt8]`, …
    public init<T: TensorElement>(_ values: [T], shape: [Int]) {
        self.init(dtype: T.dtype, shape: shape, data: values.withUnsafeBytes(Array.init))
    }
    /// The values of a tensor of `T`'s dtype. Throws `EdgepackError` dtype-mismatch.
    public func values<T: TensorElement>(_: T.Type = T.self) throws -> [T] {
        guard T.dtype == dtype else { throw EdgepackError(.dtypeMismatch, "the tensor is \(dtype), not \(T.dtype)") }
        return read()
    }
    /// The values of a tensor of any dtype, as Float.
    public var floats: [Float] { dtype == .float32 ? read() : doubles.map { Float($0) } }

    /// Whether the data fill the shape. In Double, since a hostile shape overflows Int.
    var isFull: Bool {
        shape.allSatisfy { $0 >= 0 } && shape.reduce(Double(dtype.size)) { $0 * Double($1) } == Double(data.count)
    }

    /// How far `answer` is from this expectation: the largest |a − b|, and whether all |a − b| ≤ atol + rtol·|b|.
    func compare(_ answer: Tensor?, atol: Double, rtol: Double) -> (maxAbs: Double, passed: Bool) {
        guard let answer, answer.dtype == dtype, answer.shape == shape, isFull else { return (.nan, false) }
        var maxAbs = 0.0, passed = true
        for (a, b) in zip(answer.doubles, doubles) where a != b && !(a.isNaN && b.isNaN) {
            let miss = abs(a - b)
            passed = passed && miss.isFinite && miss <= atol + rtol * abs(b)
            maxAbs = maxAbs.isNaN || miss <= maxAbs ? maxAbs : miss
        }
        return (maxAbs, passed)
    }

    private func read<T>() -> [T] { data.withUnsafeBytes { Array($0.bindMemory(to: T.self)) } }
    private var doubles: [Double] {  // closures, since a bare Double.init takes a UInt64 for a bit pattern
        switch dtype {
        case .float32: (read() as [Float]).map { Double($0) }
        case .float16: (read() as [UInt16]).map(double(half:))
        case .float64: read()
        case .int8: (read() as [Int8]).map { Double($0) }
        case .uint8, .bool: (read() as [UInt8]).map { Double($0) }
        case .int16: (read() as [Int16]).map { Double($0) }
        case .uint16: (read() as [UInt16]).map { Double($0) }
        case .int32: (read() as [Int32]).map { Double($0) }
        case .uint32: (read() as [UInt32]).map { Double($0) }
        case .int64: (read() as [Int64]).map { Double($0) }
        case .uint64: (read() as [UInt64]).map { Double($0) }
        }
    }
}

/// The value of an IEEE 754 binary16; Swift has no Float16 on Intel Macs.
private func double(half: UInt16) -> Double {
    let sign = half >> 15 == 0 ? 1.0 : -1.0
    let exponent = half >> 10 & 31, fraction = Double(half & 1023) / 1024
    switch exponent {
    case 0: return sign * fraction * 0x1p-14
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default: return sign * (1 + fraction) * Double(sign: .plus, exponent: Int(exponent) - 15, significand: 1)
    }
}

/// Swift types that are the values of a dtype.
public protocol TensorElement { static var dtype: DType { get } }
extension Float: TensorElement { public static var dtype: DType { .float32 } }
extension Double: TensorElement { public static var dtype: DType { .float64 } }
extension Int8: TensorElement { public static var dtype: DType { .int8 } }
extension UInt8: TensorElement { public static var dtype: DType { .uint8 } }
extension Int16: TensorElement { public static var dtype: DType { .int16 } }
extension UInt16: TensorElement { public static var dtype: DType { .uint16 } }
extension Int32: TensorElement { public static var dtype: DType { .int32 } }
extension UInt32: TensorElement { public static var dtype: DType { .uint32 } }
extension Int64: TensorElement { public static var dtype: DType { .int64 } }
extension UInt64: TensorElement { public static var dtype: DType { .uint64 } }
extension Bool: TensorElement { public static var dtype: DType { .bool } }
