// edgepack's loader for Apple platforms: opens a bundle and runs it on ONNX Runtime's C API.
import CryptoKit
import Foundation
#if canImport(COnnxRuntime)  // else the bridging header has it
import COnnxRuntime
#endif

/// `kind`: one of README.md's; `message`: the file, tensor and values.
public struct EdgepackError: LocalizedError {
  public let kind, message: String
  public var errorDescription: String? { "\(kind): \(message)" }
}

func fail(_ kind: String, _ message: String) throws -> Never { throw EdgepackError(kind: kind, message: message) }
func invalid(_ what: String) throws -> Never { try fail("manifest-invalid", "manifest.json: \(what)") }

/// A checked bundle. Its model stays memory-mapped: replace the folder, never a file in it.
public struct EdgepackBundle: @unchecked Sendable {  // NSData does not change
  public let manifest: Manifest
  let json: Data, folder: URL, model: (file: Manifest.File, data: NSData)

  /// Hashes the model: call it off the main thread.
  public static func open(_ folder: URL) throws -> Self {
    guard let json = try? Data(contentsOf: folder.appendingPathComponent("manifest.json")) else {
      try fail("bundle-not-found", "no manifest.json in \(folder.path)")
    }
    let head = try Manifest.Head(json: json)
    if head.schema != 1 || !head.critical.isEmpty { try fail("schema-unsupported", "manifest.json: \(head)") }
    let manifest = try Manifest(json: json), path = manifest.model.path
    let models = try manifest.files.filter { $0.role == "model" }.map { (file: $0, data: try $0.read(in: folder)) }
    guard let model = models.first(where: { $0.file.path == path }) else { try invalid("no '\(path)' of role model") }
    return Self(manifest: manifest, json: json, folder: folder, model: model)
  }

  /// The model, on the first provider that opens it.
  /// `providers`: some of the manifest's, in the order to try them; `threads`: 0: ONNX Runtime's choice.
  public func session(providers: [String]? = nil, threads: Int? = nil) throws -> EdgepackSession {
    let base = OrtGetApiBase().pointee, version = String(cString: base.GetVersionString()!)
    let least = manifest.runtime.min_version, precision = manifest.model.precision
    if !matches(least, #"\d+(\.\d+)*"#) { try invalid("min_version is '\(least)'") }
    if version.compare(least, options: .numeric) == .orderedAscending || base.GetApi(UInt32(ORT_API_VERSION)) == nil {
      try fail("runtime-too-old", "\(version); the bundle needs \(least), the app 1.\(ORT_API_VERSION)")
    }
    var report = SessionReport(runtimeVersion: version, modelSHA256: model.file.sha256, precision: precision)
    for name in providers ?? manifest.runtime.providers.map(\.name) {
      report.provider = name
      do { return try EdgepackSession(self, report, threads) } catch {
        report.passedOver[name] = error.localizedDescription
      }
    }
    try fail("provider-unavailable", "no provider opens \(model.file.path): \(report.passedOver)")
  }
}

/// What the loader reads of manifest.json.
public struct Manifest: Decodable, Sendable {
  struct Head: Decodable { let schema: Int, critical: [String] }
  struct Model: Decodable { let path, precision: String }
  struct Provider: Decodable { let name: String, options: [String: String] }
  enum Level: String, Decodable { case disabled, basic, extended, all }
  struct Session: Decodable {
    let graph_optimization_level: Level, intra_op_num_threads: UInt16, config: [String: String]
  }
  struct Runtime: Decodable { let min_version: String, providers: [Provider], session: Session }
  struct File: Decodable { let path: String, size: UInt, sha256, role: String }
  public let inputs, outputs: [TensorSpec]
  let model: Model, runtime: Runtime, files: [File]
}

extension Decodable {
  init(json: Data) throws {
    do { self = try JSONDecoder().decode(Self.self, from: json) } catch { try invalid("\(error)") }
  }
}

extension Manifest.File {
  /// The bytes, checked and memory-mapped.
  func read(in folder: URL) throws -> NSData {
    let part = "[A-Za-z0-9_][A-Za-z0-9_.-]*"  // begins with no dot: all lies in the folder
    if !matches(path, "\(part)(/\(part))*") { try invalid("'\(path)' is not inside the bundle") }
    guard let data = try? NSData(contentsOf: folder.appendingPathComponent(path), options: .mappedIfSafe) else {
      try fail("file-missing", "\(path) in \(folder.path)")
    }
    let digest = SHA256.hash(data: data as Data).map { String(format: "%02x", $0) }.joined()
    if data.length == size, digest == sha256 { return data }
    try fail("file-corrupt", "\(path) has \(data.length) bytes, SHA-256 \(digest), not \(size), \(sha256)")
  }
}

private func matches(_ text: String, _ pattern: String) -> Bool {
  text.range(of: "^(\(pattern))\\z", options: .regularExpression) != nil
}

/// An input or output.
public struct TensorSpec: Decodable, Sendable, CustomStringConvertible {
  /// Fixed, or free: any, but the same for the same name throughout a call.
  public struct Size: Decodable, Sendable, CustomStringConvertible {
    public let fixed: Int?, description: String

    public init(from json: any Decoder) throws {
      fixed = try? Int(UInt32(from: json))
      description = try fixed.map { "\($0)" } ?? "'\(String(from: json))'"
    }
  }
  public let name: String, dtype: DType, shape: [Size]
  public var description: String { "'\(name)' \(dtype) \(shape)" }
}

/// Element types, in the order of ONNX's numbers.
public enum DType: String, CaseIterable, Decodable, Sendable {
  case float32, uint8, int8, uint16, int16, int32, int64, bool, float16, float64, uint32, uint64

  /// Bytes per element.
  public var size: Int { (Int(rawValue.drop { $0.isLetter }) ?? 8) / 8 }

  /// ONNX's number, from 1; its 8 are strings.
  var number: UInt32 {
    let place = UInt32(DType.allCases.firstIndex(of: self)!)
    return place < 7 ? place + 1 : place + 2
  }
}

/// Row-major, little-endian values that fill `shape`; a scalar's is `[]`, a bool one byte, 0 or 1.
public struct Tensor: Sendable, Equatable {
  public let dtype: DType, shape: [Int], data: Data

  public init(dtype: DType, shape: [Int], data: Data) throws {
    (self.dtype, self.shape, self.data) = (dtype, shape, data)
    let size = shape.reduce(Double(dtype.size)) { $0 * ($1 < 0 ? .nan : Double($1)) }  // in Int it may overflow
    if size != Double(data.count) { try fail("shape-mismatch", "\(data.count) bytes do not fill \(dtype) \(shape)") }
  }
}

/// What really opened; `passedOver`: reasons by provider.
public struct SessionReport: Sendable {
  public var provider = "", passedOver: [String: String] = [:]
  public let runtimeVersion, modelSHA256, precision: String
}

/// An open model. Any number of threads may call `run` at once; it closes with its last reference.
public final class EdgepackSession: @unchecked Sendable {  // OrtApi::Run is thread-safe
  public let report: SessionReport
  let bundle: EdgepackBundle, inputNames, outputNames: CStrings
  var env, memory, session: OpaquePointer?

  init(_ bundle: EdgepackBundle, _ report: SessionReport, _ threads: Int?) throws {
    let manifest = bundle.manifest, settings = manifest.runtime.session, name = report.provider
    (self.bundle, self.report) = (bundle, report)
    (inputNames, outputNames) = (CStrings(manifest.inputs.map(\.name)), CStrings(manifest.outputs.map(\.name)))
    setenv("ORT_DISABLE_TELEMETRY", "1", 1)  // for a new environment; the call: for an old one
    try ok(ort.CreateEnv(ORT_LOGGING_LEVEL_WARNING, "edgepack", &env))
    try ok(ort.DisableTelemetryEvents(env))
    try ok(ort.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
    var options: OpaquePointer?
    try ok(ort.CreateSessionOptions(&options))
    defer { ort.ReleaseSessionOptions(options) }
    let levels = [Manifest.Level.disabled: ORT_DISABLE_ALL, .basic: ORT_ENABLE_BASIC, .extended: ORT_ENABLE_EXTENDED]
    try ok(ort.SetSessionGraphOptimizationLevel(options, levels[settings.graph_optimization_level] ?? ORT_ENABLE_ALL))
    try ok(ort.SetIntraOpNumThreads(options, Int32(clamping: threads ?? Int(settings.intra_op_num_threads))))
    for use in ["directly", "for_initializers"] {  // no copy of an .ort model: its bytes stay
      try ok(ort.AddSessionConfigEntry(options, "session.use_ort_model_bytes_\(use)", "1"))
    }
    for (key, value) in settings.config { try ok(ort.AddSessionConfigEntry(options, key, value)) }
    guard let own = manifest.runtime.providers.first(where: { $0.name == name })?.options else {
      try fail("provider-unavailable", "not in manifest.json")
    }
    if name != "CPUExecutionProvider" {  // always there
      let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask)[0].path
      let folder = "\(caches)/edgepack/\(report.modelSHA256)-\(report.runtimeVersion)"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      let keys = CStrings(own.map(\.key)), values = CStrings(own.map { $1 == "${cache}" ? folder : $1 })
      try ok(ort.SessionOptionsAppendExecutionProvider(options, name, keys.pointers, values.pointers, own.count))
    }
    try ok(ort.CreateSessionFromArray(env, bundle.model.data.bytes, bundle.model.data.length, options, &session))
  }

  deinit {
    ort.ReleaseSession(session)
    ort.ReleaseMemoryInfo(memory)
    ort.ReleaseEnv(env)
  }

  /// Outputs by name.
  public func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
    let (takes, gives) = (bundle.manifest.inputs, bundle.manifest.outputs)
    var sizes: [String: Int] = [:], lent: [NSData] = [], values: [OpaquePointer?] = []
    var answers = gives.map { _ in OpaquePointer?.none }
    defer { (values + answers).forEach { ort.ReleaseValue($0) } }
    for spec in takes {
      guard let x = inputs[spec.name] else { try fail("input-missing", "\(spec)") }
      if x.dtype != spec.dtype { try fail("dtype-mismatch", "\(spec) is \(x.dtype)") }
      sizes.merge(zip(spec.shape.map(\.description), x.shape)) { known, _ in known }
      if x.shape != spec.shape.map({ $0.fixed ?? sizes[$0.description] }) {
        try fail("shape-mismatch", "\(spec) is \(x.shape), with \(sizes)")
      }
      let data = x.data as NSData
      lent.append(data)
      values.append(nil)
      try ok(ort.CreateTensorWithDataAsOrtValue(
        memory, UnsafeMutableRawPointer(mutating: data.bytes), data.length, x.shape.map(Int64.init), x.shape.count,
        ONNXTensorElementDataType(x.dtype.number), &values[lent.count - 1]))
    }
    if inputs.count > takes.count { try fail("input-unknown", "\(inputs.keys) are more than \(takes)") }
    try withExtendedLifetime(lent) {
      try ok(ort.Run(
        session, nil, inputNames.pointers, values, values.count, outputNames.pointers, answers.count, &answers))
    }
    return Dictionary(try zip(gives, answers).map { ($0.name, try copy($0, $1)) }) { $1 }
  }

  func copy(_ spec: TensorSpec, _ value: OpaquePointer?) throws -> Tensor {
    var type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, sizes: UnsafePointer<Int64>?, rank = 0
    var bytes: UnsafeMutableRawPointer?
    try ok(ort.GetTensorElementTypeAndShapeDataReference(value, &type, &sizes, &rank))
    if type.rawValue != spec.dtype.number { try fail("dtype-mismatch", "output \(spec) is ONNX's \(type.rawValue)") }
    try ok(ort.GetTensorMutableData(value, &bytes))
    let shape = UnsafeBufferPointer(start: sizes, count: rank).map(Int.init), size = shape.reduce(spec.dtype.size, *)
    return try Tensor(dtype: spec.dtype, shape: shape, data: Data(UnsafeRawBufferPointer(start: bytes, count: size)))
  }
}

var ort: OrtApi { OrtGetApiBase().pointee.GetApi(UInt32(ORT_API_VERSION))!.pointee }

func ok(_ status: OrtStatusPtr?) throws {
  guard let status else { return }
  defer { ort.ReleaseStatus(status) }
  try fail("runtime-failed", String(cString: ort.GetErrorMessage(status)!))
}

/// C strings that live as long as this object.
final class CStrings {
  let pointers: [UnsafePointer<CChar>?]
  init(_ strings: [String]) { pointers = strings.map { UnsafePointer(strdup($0)) } }
  deinit { pointers.forEach { free(.init(mutating: $0)) } }
}
