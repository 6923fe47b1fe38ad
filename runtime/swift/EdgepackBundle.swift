// edgepack's loader for Apple platforms: a bundle, its manifest and its tensors. Apache-2.0.
import CryptoKit
import Foundation

/// `kind`: one of the words in the bundle's README; `message`: the file, tensor and values.
public struct EdgepackError: LocalizedError {
  public let kind, message: String
  public var errorDescription: String? { "\(kind): \(message)" }
  init(_ kind: String, _ message: String) { (self.kind, self.message) = (kind, message) }
}

/// A checked bundle. Its model stays memory-mapped: to update one replace the folder, never a file in it.
public struct EdgepackBundle: @unchecked Sendable {  // NSData does not change
  public var inputs: [TensorSpec] { manifest.inputs }
  public var outputs: [TensorSpec] { manifest.outputs }
  let manifest: Manifest, json: Data, folder: URL, model: NSData

  #if SWIFT_PACKAGE
  /// The bundle that is this Swift package, out of the app's resources.
  public static func open() throws -> Self { try open(Bundle.module.resourceURL!) }
  #endif

  /// Hashes the model: call it off the main thread.
  public static func open(_ folder: URL) throws -> Self {
    guard let json = try? Data(contentsOf: folder.appendingPathComponent("manifest.json")) else {
      throw EdgepackError("bundle-not-found", "no manifest.json in \(folder.path)")
    }
    let manifest = try Manifest(json)
    var models: [String: NSData] = [:]
    for file in manifest.files where file.role == "model" { models[file.path] = try manifest.read(file.path, in: folder) }
    guard let model = models[manifest.model.path] else { throw invalid("files has no '\(manifest.model.path)' of role model") }
    return Self(manifest: manifest, json: json, folder: folder, model: model)
  }
}

/// What the loader reads of manifest.json, under its names.
struct Manifest: Decodable {
  struct Head: Decodable { let schema: Int, critical: [String] }
  struct Model: Decodable { let path, precision: String }
  struct Provider: Decodable { let name: String, options: [String: String] }
  enum Level: String, Decodable { case disabled, basic, extended, all }
  struct Settings: Decodable { let graph_optimization_level: Level, intra_op_num_threads: Int, config: [String: String] }
  struct Runtime: Decodable { let min_version: String, providers: [Provider], session: Settings }
  struct Stored: Decodable { let name, path: String, dtype: DType, shape: [Int], from: String?, atol, rtol: Double? }
  struct Case: Decodable { let name: String, inputs, expect: [Stored] }
  struct File: Decodable { let path: String, size: Int, sha256, role: String }
  let model: Model, inputs, outputs: [TensorSpec], runtime: Runtime, golden: [Case], files: [File]

  init(_ json: Data) throws {
    do {
      let head = try JSONDecoder().decode(Head.self, from: json)
      guard head.schema == 1, head.critical.isEmpty else {
        throw EdgepackError("schema-unsupported", "manifest.json: schema is \(head.schema), critical \(head.critical)")
      }
      self = try JSONDecoder().decode(Self.self, from: json)
    } catch DecodingError.keyNotFound(_, let it), DecodingError.typeMismatch(_, let it),
      DecodingError.valueNotFound(_, let it), DecodingError.dataCorrupted(let it)
    {
      throw invalid(it.codingPath.map { $0.stringValue + ": " }.joined() + it.debugDescription)
    }
    let threads = runtime.session.intra_op_num_threads
    if threads < 0 { throw invalid("intra_op_num_threads is \(threads)") }
    if !matches(runtime.min_version, #"\d+(\.\d+)*"#) { throw invalid("min_version is '\(runtime.min_version)'") }
  }

  func file(_ path: String) throws -> File {
    // No part begins with a dot, so that all lies in the folder.
    guard let file = files.first(where: { $0.path == path }), matches(path, "[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
    else { throw invalid("files does not list '\(path)', or it is not inside the bundle") }
    if file.size < 0 { throw invalid("size of '\(path)' is \(file.size)") }
    return file
  }

  /// A file's bytes, checked and memory-mapped.
  func read(_ path: String, in folder: URL) throws -> NSData {
    let file = try file(path)
    guard let data = try? NSData(contentsOf: folder.appendingPathComponent(path), options: .mappedIfSafe) else {
      throw EdgepackError("file-missing", "\(path) in \(folder.path)")
    }
    let sha256 = SHA256.hash(data: Data(referencing: data)).map { String(format: "%02x", $0) }.joined()
    guard data.length == file.size, sha256 == file.sha256 else {
      throw EdgepackError("file-corrupt", "\(path): \(data.length) bytes, SHA-256 \(sha256); manifest.json: \(file)")
    }
    return data
  }
}

private func matches(_ text: String, _ pattern: String) -> Bool {
  text.range(of: "^(\(pattern))\\z", options: .regularExpression) != nil
}

func invalid(_ what: String) -> EdgepackError { EdgepackError("manifest-invalid", "manifest.json: \(what)") }

/// An input or output.
public struct TensorSpec: Decodable, Sendable, CustomStringConvertible {
  /// A free size may be any, but is the same for the same name throughout a call.
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
    public var description: String { switch self { case .fixed(let size): "\(size)"; case .free(let name): name } }
  }
  public let name: String, dtype: DType, shape: [Size]
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

  /// In Double, since a hostile shape overflows Int.
  var isFull: Bool {
    shape.allSatisfy { $0 >= 0 } && shape.reduce(Double(dtype.size)) { $0 * Double($1) } == Double(data.count)
  }
}

/// A float16, its bits moved to where a Float has them: Intel Macs have no Float16.
private func half(_ bits: UInt16) -> Double {
  let isFinite = bits & 0x7c00 < 0x7c00, moved = UInt32(bits & 0x7fff) << 13
  let size = isFinite ? Float(bitPattern: moved) * 0x1p112 : Float(bitPattern: moved | 0x7f80_0000)
  return Double(bits >> 15 == 0 ? size : -size)
}
