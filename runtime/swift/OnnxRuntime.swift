import Foundation
#if canImport(COnnxRuntime)  // the Swift package; in an app's own target the bridging header brings the C API
import COnnxRuntime
#endif

/// What ONNX Runtime refused, in its own words.
public struct OrtError: LocalizedError {
    public let errorDescription: String?
    init(_ message: String) { errorDescription = message }
}

/// ONNX Runtime's C API and environment, without telemetry.
final class OnnxRuntime: @unchecked Sendable {  // nothing changes after init
    let api: UnsafePointer<OrtApi>, version: String
    private(set) var env: OpaquePointer?, memory: OpaquePointer?

    /// Throws `EdgepackError` runtime-too-old; `OrtError`.
    init(atLeast minimum: String) throws {
        let base = OrtGetApiBase().pointee
        version = String(cString: base.GetVersionString()!)
        guard version.compare(minimum, options: .numeric) != .orderedAscending else {
            throw EdgepackError(.runtimeTooOld, "ONNX Runtime is \(version), the bundle needs \(minimum) or newer")
        }
        guard let api = base.GetApi(UInt32(ORT_API_VERSION)) else {
            throw EdgepackError(.runtimeTooOld, "ONNX Runtime is \(version), this app was built for 1.\(ORT_API_VERSION) or newer")
        }
        self.api = api
        // Before the environment exists the variable stops all telemetry; the call stops what came in between.
        setenv("ORT_DISABLE_TELEMETRY", "1", 1)
        try check(api.pointee.CreateEnv(ORT_LOGGING_LEVEL_WARNING, "edgepack", &env))
        try check(api.pointee.DisableTelemetryEvents(env))
        try check(api.pointee.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
    }

    deinit {
        api.pointee.ReleaseMemoryInfo(memory)
        api.pointee.ReleaseEnv(env)
    }

    /// A provider option with `${cache}` as a folder below the app's caches, one for each model and runtime version:
    /// CoreML does not see that a model it compiled has changed (coreml_provider_factory.h, ModelCacheDirectory).
    func expand(_ option: String, for manifest: Manifest) throws -> String {
        guard option.contains("${cache}") else { return option }
        let caches = try FileManager.default.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        let folder = caches.appendingPathComponent("edgepack/\(manifest.modelSHA256)-\(version)", isDirectory: true)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return option.replacingOccurrences(of: "${cache}", with: folder.path)
    }

    func check(_ status: OrtStatusPtr?) throws {
        guard let status else { return }
        defer { api.pointee.ReleaseStatus(status) }
        throw OrtError(String(cString: api.pointee.GetErrorMessage(status)!))
    }
}

/// A model open on one provider, with the CPU for what that one leaves.
final class OnnxModel: @unchecked Sendable {  // nothing changes after init, and OrtApi::Run is thread-safe
    private let runtime: OnnxRuntime, bytes: NSData, inputNames: CStrings, outputNames: CStrings
    private var session: OpaquePointer?
    /// Provider to the number of nodes it took; nil if unknown: ONNX Runtime 1.29 notes it for .onnx, not for .ort models.
    var nodesByProvider: [String: Int]? { (try? countNodes()).flatMap { $0.isEmpty ? nil : $0 } }

    /// Throws `OrtError`; also when the provider takes none of the nodes.
    init(_ runtime: OnnxRuntime, _ model: Data, _ manifest: Manifest, _ provider: Manifest.Provider, threads: Int?) throws {
        (self.runtime, bytes) = (runtime, model as NSData)
        (inputNames, outputNames) = (CStrings(manifest.inputs.map(\.name)), CStrings(manifest.outputs.map(\.name)))
        let api = runtime.api, settings = manifest.runtime.session
        var options: OpaquePointer?
        try runtime.check(api.pointee.CreateSessionOptions(&options))
        defer { api.pointee.ReleaseSessionOptions(options) }
        try runtime.check(api.pointee.SetSessionGraphOptimizationLevel(options, settings.graph_optimization_level.value))
        try runtime.check(api.pointee.SetIntraOpNumThreads(options, Int32(clamping: threads ?? settings.intra_op_num_threads)))
        // No copy of an .ort model, since its bytes live as long as the session; and note which provider takes which node.
        let config = ["session.use_ort_model_bytes_directly": "1", "session.record_ep_graph_assignment_info": "1"]
        for (key, value) in config.merging(settings.config, uniquingKeysWith: { $1 }) {
            try runtime.check(api.pointee.AddSessionConfigEntry(options, key, value))
        }
        if !provider.isCPU {  // which ONNX Runtime always has
            let keys = CStrings(provider.options.map(\.key))
            let values = CStrings(try provider.options.map { try runtime.expand($0.value, for: manifest) })
            try withExtendedLifetime((keys, values)) {
                try runtime.check(api.pointee.SessionOptionsAppendExecutionProvider(
                    options, provider.shortName, keys.pointers, values.pointers, provider.options.count))
            }
        }
        try runtime.check(api.pointee.CreateSessionFromArray(runtime.env, bytes.bytes, bytes.length, options, &session))
        if !provider.isCPU, let nodes = nodesByProvider, nodes[provider.name] == nil {
            throw OrtError("\(provider.name) takes none of the model's nodes: \(nodes)")
        }
    }

    deinit { runtime.api.pointee.ReleaseSession(session) }

    /// The outputs `specs` names. Throws `OrtError`; `EdgepackError` dtype-mismatch for an output.
    func run(_ inputs: [Tensor], giving specs: [TensorSpec]) throws -> [Tensor] {
        try lend(inputs[...]) { values in
            var answers = [OpaquePointer?](repeating: nil, count: specs.count)
            defer { answers.forEach { runtime.api.pointee.ReleaseValue($0) } }
            try runtime.check(runtime.api.pointee.Run(
                session, nil, inputNames.pointers, values, values.count, outputNames.pointers, specs.count, &answers))
            return try zip(specs, answers).map(take)
        }
    }

    /// Lends the tensors' own bytes to ONNX Runtime while `body` runs, one scope a tensor.
    private func lend<R>(_ tensors: ArraySlice<Tensor>, _ lent: [OpaquePointer?] = [], _ body: ([OpaquePointer?]) throws -> R) throws -> R {
        guard let tensor = tensors.first else { return try body(lent) }
        return try tensor.data.withUnsafeBytes { bytes in
            var value: OpaquePointer?
            try runtime.check(runtime.api.pointee.CreateTensorWithDataAsOrtValue(
                runtime.memory, UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count,
                tensor.shape.map(Int64.init), tensor.shape.count, tensor.dtype.code, &value))
            defer { runtime.api.pointee.ReleaseValue(value) }
            return try lend(tensors.dropFirst(), lent + [value], body)
        }
    }

    /// A copy of an output.
    private func take(_ spec: TensorSpec, _ value: OpaquePointer?) throws -> Tensor {
        let api = runtime.api
        var info: OpaquePointer?, code = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, rank = 0
        try runtime.check(api.pointee.GetTensorTypeAndShape(value, &info))
        defer { api.pointee.ReleaseTensorTypeAndShapeInfo(info) }
        try runtime.check(api.pointee.GetTensorElementType(info, &code))
        guard code == spec.dtype.code else {
            throw EdgepackError(.dtypeMismatch, "output \(spec): the model gives ONNX type \(code.rawValue)")
        }
        try runtime.check(api.pointee.GetDimensionsCount(info, &rank))
        var shape = [Int64](repeating: 0, count: rank), data: UnsafeMutableRawPointer?
        try runtime.check(api.pointee.GetDimensions(info, &shape, rank))
        try runtime.check(api.pointee.GetTensorMutableData(value, &data))
        let size = shape.reduce(spec.dtype.size) { $0 * Int($1) }
        return Tensor(dtype: spec.dtype, shape: shape.map(Int.init), data: UnsafeRawBufferPointer(start: data, count: size))
    }

    private func countNodes() throws -> [String: Int] {
        let api = runtime.api
        var parts: UnsafePointer<OpaquePointer?>?, partCount = 0, nodes: [String: Int] = [:]
        try runtime.check(api.pointee.Session_GetEpGraphAssignmentInfo(session, &parts, &partCount))
        for part in UnsafeBufferPointer(start: parts, count: partCount) {
            var provider: UnsafePointer<CChar>?, list: UnsafePointer<OpaquePointer?>?, count = 0
            try runtime.check(api.pointee.EpAssignedSubgraph_GetEpName(part, &provider))
            try runtime.check(api.pointee.EpAssignedSubgraph_GetNodes(part, &list, &count))
            nodes[String(cString: provider!), default: 0] += count
        }
        return nodes
    }
}

/// C strings that live as long as this object.
private final class CStrings {
    let pointers: [UnsafePointer<CChar>?]
    init(_ strings: [String]) { pointers = strings.map { UnsafePointer(strdup($0)) } }
    deinit { for pointer in pointers { free(UnsafeMutablePointer(mutating: pointer)) } }
}

extension Manifest.Provider {
    var isCPU: Bool { name == "CPUExecutionProvider" }
    /// Source: OrtApi::SessionOptionsAppendExecutionProvider, onnxruntime_c_api.h.
    fileprivate var shortName: String {
        ["CoreMLExecutionProvider": "CoreML", "XnnpackExecutionProvider": "XNNPACK"][name] ?? name
    }
}

extension Manifest.Level {
    fileprivate var value: GraphOptimizationLevel {
        switch self {
        case .disabled: ORT_DISABLE_ALL
        case .basic: ORT_ENABLE_BASIC
        case .extended: ORT_ENABLE_EXTENDED
        case .layout: ORT_ENABLE_LAYOUT
        case .all: ORT_ENABLE_ALL
        }
    }
}

extension DType {
    fileprivate var code: ONNXTensorElementDataType {
        switch self {
        case .float32: ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
        case .float16: ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
        case .float64: ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE
        case .int8: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8
        case .uint8: ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
        case .int16: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16
        case .uint16: ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16
        case .int32: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
        case .uint32: ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32
        case .int64: ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64
        case .uint64: ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64
        case .bool: ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL
        }
    }
}
