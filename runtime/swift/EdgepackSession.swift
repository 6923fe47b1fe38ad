// edgepack's loader for Apple platforms: the model on ONNX Runtime's C API. Apache-2.0.
import Foundation
#if canImport(COnnxRuntime)  // the Swift package; in an app's own target the bridging header brings the C API
import COnnxRuntime
#endif

/// What really opened.
public struct SessionReport: Sendable {
  public var provider = "", runtimeVersion, modelSHA256, precision: String
  /// Nodes by provider; ONNX Runtime 1.29 tells for .onnx, not for .ort models: then empty.
  public var nodes: [String: Int] = [:]
  /// Reasons by provider.
  public var passedOver: [String: String] = [:]
}

extension EdgepackBundle {
  /// The model, opened with the first provider that can be had and takes part in it.
  /// `providers`: some of the manifest's, in the order to try them; `threads`: for one run, 0: ONNX Runtime's choice.
  public func session(providers: [String]? = nil, threads: Int? = nil) throws -> EdgepackSession {
    try EdgepackSession(self, providers, threads)
  }
}

/// An open model. Any number of threads may call `run` at once; it closes with its last reference.
public final class EdgepackSession: @unchecked Sendable {  // nothing changes after init, and OrtApi::Run is thread-safe
  public private(set) var report: SessionReport
  let bundle: EdgepackBundle
  private let inputNames, outputNames: CStrings, api: UnsafePointer<OrtApi>
  private var ort: OrtApi { api.pointee }
  private var env, memory, session: OpaquePointer?

  fileprivate init(_ bundle: EdgepackBundle, _ providers: [String]?, _ threads: Int?) throws {
    let manifest = bundle.manifest, minimum = manifest.runtime.min_version
    let base = OrtGetApiBase().pointee, version = String(cString: base.GetVersionString()!)
    guard version.compare(minimum, options: .numeric) != .orderedAscending, let api = base.GetApi(UInt32(ORT_API_VERSION))
    else { throw EdgepackError("runtime-too-old", "\(version); the bundle needs \(minimum), the app 1.\(ORT_API_VERSION)") }
    let file = try manifest.file(manifest.model.path)
    report = SessionReport(runtimeVersion: version, modelSHA256: file.sha256, precision: manifest.model.precision)
    (self.bundle, self.api) = (bundle, api)
    (inputNames, outputNames) = (CStrings(bundle.inputs.map(\.name)), CStrings(bundle.outputs.map(\.name)))
    setenv("ORT_DISABLE_TELEMETRY", "1", 1)  // before there is an environment; the call is for one that is there already
    try check(ort.CreateEnv(ORT_LOGGING_LEVEL_WARNING, "edgepack", &env))
    try check(ort.DisableTelemetryEvents(env))
    try check(ort.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
    for name in providers ?? manifest.runtime.providers.map(\.name) {
      do { try open(name, threads) } catch { report.passedOver[name] = error.localizedDescription }
      if session != nil { return }
    }
    throw EdgepackError("provider-unavailable", "no provider opens \(file.path): \(report.passedOver)")
  }

  deinit {
    ort.ReleaseSession(session)
    ort.ReleaseMemoryInfo(memory)
    ort.ReleaseEnv(env)
  }

  /// Outputs by name.
  public func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
    try lend(try checked(inputs)[...]) { values in
      var answers = [OpaquePointer?](repeating: nil, count: bundle.outputs.count)
      defer { answers.forEach { ort.ReleaseValue($0) } }
      try check(ort.Run(
        session, nil, inputNames.pointers, values, values.count, outputNames.pointers, answers.count, &answers))
      return Dictionary(try zip(bundle.outputs, answers).map { ($0.name, try copy($0, $1)) }) { $1 }
    }
  }

  /// The same, without holding the caller's thread.
  public func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
    try await withCheckedThrowingContinuation { done in
      DispatchQueue.global().async { done.resume(with: Result { try self.run(inputs) }) }
    }
  }

  private func open(_ name: String, _ threads: Int?) throws {
    let settings = bundle.manifest.runtime.session
    guard let provider = bundle.manifest.runtime.providers.first(where: { $0.name == name }) else {
      throw EdgepackError("provider-unavailable", "manifest.json does not list it")
    }
    var options, opened: OpaquePointer?
    try check(ort.CreateSessionOptions(&options))
    defer { ort.ReleaseSessionOptions(options) }
    let levels = [Manifest.Level.disabled: ORT_DISABLE_ALL, .basic: ORT_ENABLE_BASIC, .extended: ORT_ENABLE_EXTENDED]
    try check(ort.SetSessionGraphOptimizationLevel(options, levels[settings.graph_optimization_level] ?? ORT_ENABLE_ALL))
    try check(ort.SetIntraOpNumThreads(options, Int32(clamping: threads ?? settings.intra_op_num_threads)))
    // No copy of an .ort model nor of its weights, whose bytes live as long as the session; and note which provider takes which node.
    let config = [
      "session.use_ort_model_bytes_directly": "1", "session.use_ort_model_bytes_for_initializers": "1",
      "session.record_ep_graph_assignment_info": "1",
    ]
    for (key, value) in config.merging(settings.config, uniquingKeysWith: { $1 }) {
      try check(ort.AddSessionConfigEntry(options, key, value))
    }
    let isCPU = name == "CPUExecutionProvider"  // which is always there
    if !isCPU {
      let keys = CStrings(provider.options.map(\.key))
      let values = CStrings(try provider.options.map { $0.value == "${cache}" ? try cacheFolder() : $0.value })
      try check(ort.SessionOptionsAppendExecutionProvider(options, name, keys.pointers, values.pointers, keys.pointers.count))
    }
    try check(ort.CreateSessionFromArray(env, bundle.model.bytes, bundle.model.length, options, &opened))
    let nodes = (try? countNodes(opened)) ?? [:]
    guard isCPU || nodes.isEmpty || nodes[name] != nil else {
      ort.ReleaseSession(opened)
      throw EdgepackError("provider-unavailable", "takes none of the model's nodes: \(nodes)")
    }
    (session, report.provider, report.nodes) = (opened, name, nodes)
  }

  /// The inputs in the model's order.
  private func checked(_ inputs: [String: Tensor]) throws -> [Tensor] {
    let specs = bundle.inputs
    func fault(_ kind: String, _ what: String) -> EdgepackError { EdgepackError(kind, "\(what); the model takes \(specs)") }
    var free: [String: Int] = [:]
    let tensors = try specs.map { spec in
      guard let x = inputs[spec.name] else { throw fault("input-missing", spec.name) }
      guard x.dtype == spec.dtype else { throw fault("dtype-mismatch", "\(spec.name) is \(x.dtype)") }
      guard spec.fits(x.shape, &free), x.isFull else {
        throw fault("shape-mismatch", "\(spec.name) is \(x.shape) in \(x.data.count) bytes, free sizes \(free)")
      }
      return x
    }
    for name in inputs.keys where !specs.contains(where: { $0.name == name }) { throw fault("input-unknown", name) }
    return tensors
  }

  /// Lends the tensors' own bytes to ONNX Runtime while `body` runs.
  private func lend<T>(
    _ tensors: ArraySlice<Tensor>, _ values: [OpaquePointer?] = [], _ body: ([OpaquePointer?]) throws -> T
  ) throws -> T {
    guard let x = tensors.first else { return try body(values) }
    return try x.data.withUnsafeBytes { bytes in
      var value: OpaquePointer?
      defer { ort.ReleaseValue(value) }
      try check(ort.CreateTensorWithDataAsOrtValue(
        memory, UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count, x.shape.map(Int64.init), x.shape.count,
        ONNXTensorElementDataType(x.dtype.code), &value))
      return try lend(tensors.dropFirst(), values + [value], body)
    }
  }

  private func copy(_ spec: TensorSpec, _ value: OpaquePointer?) throws -> Tensor {
    var info: OpaquePointer?, type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, rank = 0, data: UnsafeMutableRawPointer?
    try check(ort.GetTensorTypeAndShape(value, &info))
    defer { ort.ReleaseTensorTypeAndShapeInfo(info) }
    try check(ort.GetTensorElementType(info, &type))
    guard type.rawValue == spec.dtype.code else {
      throw EdgepackError("dtype-mismatch", "output \(spec): the model gives ONNX type \(type.rawValue)")
    }
    try check(ort.GetDimensionsCount(info, &rank))
    var shape = [Int64](repeating: 0, count: rank)
    try check(ort.GetDimensions(info, &shape, rank))
    try check(ort.GetTensorMutableData(value, &data))
    let size = shape.reduce(spec.dtype.size) { $0 * Int($1) }
    return Tensor(dtype: spec.dtype, shape: shape.map(Int.init), data: Data(UnsafeRawBufferPointer(start: data, count: size)))
  }

  private func countNodes(_ session: OpaquePointer?) throws -> [String: Int] {
    var parts, list: UnsafePointer<OpaquePointer?>?, partCount = 0, count = 0, name: UnsafePointer<CChar>?
    var nodes: [String: Int] = [:]
    try check(ort.Session_GetEpGraphAssignmentInfo(session, &parts, &partCount))
    for part in UnsafeBufferPointer(start: parts, count: partCount) {
      try check(ort.EpAssignedSubgraph_GetEpName(part, &name))
      try check(ort.EpAssignedSubgraph_GetNodes(part, &list, &count))
      nodes[String(cString: name!), default: 0] += count
    }
    return nodes
  }

  /// In the app's caches, one for each model and runtime version.
  private func cacheFolder() throws -> String {
    let folder = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask)[0]
      .appendingPathComponent("edgepack/\(report.modelSHA256)-\(report.runtimeVersion)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder.path
  }

  private func check(_ status: OrtStatusPtr?) throws {
    guard let status else { return }
    defer { ort.ReleaseStatus(status) }
    throw EdgepackError("runtime-failed", String(cString: ort.GetErrorMessage(status)!))
  }
}

/// C strings that live as long as this object.
private final class CStrings {
  let pointers: [UnsafePointer<CChar>?]
  init(_ strings: [String]) { pointers = strings.map { UnsafePointer(strdup($0)) } }
  deinit { for pointer in pointers { free(UnsafeMutablePointer(mutating: pointer)) } }
}
