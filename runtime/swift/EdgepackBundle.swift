// edgepack loader for Apple platforms: opens a bundle, checks every byte, runs its model on ONNX Runtime. Apache-2.0.
import Foundation

/// What is wrong with a bundle or a call; `message` names file, tensor and values.
public struct EdgepackError: LocalizedError {
    public enum Kind: String, Sendable {
        case bundleNotFound = "bundle-not-found", manifestInvalid = "manifest-invalid"
        case schemaUnsupported = "schema-unsupported", fileMissing = "file-missing", fileCorrupt = "file-corrupt"
        case runtimeTooOld = "runtime-too-old", providerUnavailable = "provider-unavailable"
        case inputMissing = "input-missing", inputUnknown = "input-unknown"
        case dtypeMismatch = "dtype-mismatch", shapeMismatch = "shape-mismatch"
    }
    public let kind: Kind, message: String
    public var errorDescription: String? { "\(kind.rawValue): \(message)" }

    init(_ kind: Kind, _ message: String) { (self.kind, self.message) = (kind, message) }
}

/// A checked bundle.
public struct EdgepackBundle: Sendable {
    public var inputs: [TensorSpec] { manifest.inputs }
    public var outputs: [TensorSpec] { manifest.outputs }
    let manifest: Manifest
    let folder: URL
    private let model: Data

    #if SWIFT_PACKAGE
    /// The bundle that is this Swift package, out of the app's resources.
    public static func open() throws -> EdgepackBundle { try open(Bundle.module.resourceURL!) }
    #endif

    /// The bundle in `folder`. Hashes the model: call it off the main thread. The model stays memory-mapped: to update
    /// a bundle replace its folder, never a file in place.
    /// Throws `EdgepackError`: bundle-not-found, manifest-invalid, schema-unsupported, file-missing, file-corrupt.
    public static func open(_ folder: URL) throws -> EdgepackBundle {
        guard let json = try? Data(contentsOf: folder.appendingPathComponent("manifest.json")) else {
            throw EdgepackError(.bundleNotFound, "there is no manifest.json in \(folder.path)")
        }
        let manifest = try Manifest(json: json)
        for path in manifest.modelPaths where path != manifest.model.path { _ = try manifest.read(path, in: folder) }
        let model = try manifest.read(manifest.model.path, in: folder)
        return EdgepackBundle(manifest: manifest, folder: folder, model: model)
    }

    /// The model, opened with the first provider that can be had and takes part in it.
    /// - Parameters:
    ///   - providers: some of the manifest's, in the order to try them; nil: all, in the manifest's order.
    ///   - threads: for one `run`; 0: ONNX Runtime's choice; nil: the manifest's.
    /// Throws `EdgepackError`: runtime-too-old, provider-unavailable; `OrtError`.
    public func session(providers: [String]? = nil, threads: Int? = nil) throws -> EdgepackSession {
        let runtime = try OnnxRuntime(atLeast: manifest.runtime.min_version)
        var passedOver: [String: String] = [:]
        for name in providers ?? manifest.runtime.providers.map(\.name) {
            do {
                guard let provider = manifest.runtime.providers.first(where: { $0.name == name }) else {
                    throw OrtError("manifest.json does not list it")
                }
                let model = try OnnxModel(runtime, model, manifest, provider, threads: threads)
                let nodes = model.nodesByProvider
                let report = SessionReport(
                    provider: name, proven: provider.isCPU || nodes?.keys.elementsEqual([name]) == true, nodes: nodes,
                    passedOver: passedOver, runtimeVersion: runtime.version, modelSHA256: manifest.modelSHA256,
                    precision: manifest.model.precision)
                return EdgepackSession(bundle: self, model: model, report: report)
            } catch {
                passedOver[name] = error.localizedDescription
            }
        }
        throw EdgepackError(.providerUnavailable, "no provider opens \(manifest.model.path): \(passedOver)")
    }
}

/// What really opened.
public struct SessionReport: Sendable {
    public let provider: String
    /// Whether `provider` is known to run every node.
    public let proven: Bool
    /// Provider to the number of graph nodes it took, as ONNX Runtime tells for .onnx models; nil for .ort.
    public let nodes: [String: Int]?
    /// Provider to the reason why it was not used.
    public let passedOver: [String: String]
    public let runtimeVersion: String, modelSHA256: String, precision: String
}

/// One output of a golden case against one expectation.
public struct Comparison: Sendable {
    public let golden: String, output: String, from: String
    /// The largest |a − b|; NaN if dtype or shape differ.
    public let maxAbs: Double
    public let atol: Double, rtol: Double, passed: Bool
}

public struct SelfTest: Sendable {
    public let cases: [Comparison]
    public let report: SessionReport
    /// There were comparisons, and all passed.
    public var passed: Bool { !cases.isEmpty && cases.allSatisfy(\.passed) }
}

/// An open model. Any number of threads may call `run` at once; it closes with its last reference.
public final class EdgepackSession: Sendable {
    public let report: SessionReport
    private let bundle: EdgepackBundle
    private let model: OnnxModel

    init(bundle: EdgepackBundle, model: OnnxModel, report: SessionReport) {
        (self.bundle, self.model, self.report) = (bundle, model, report)
    }

    /// Outputs by name.
    /// Throws `EdgepackError`: input-missing, input-unknown, dtype-mismatch, shape-mismatch; `OrtError`.
    public func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
        let answers = try model.run(try check(inputs), giving: bundle.outputs)
        return Dictionary(uniqueKeysWithValues: zip(bundle.outputs.lazy.map(\.name), answers))
    }

    /// Runs the golden cases; a miss is reported, not thrown.
    /// Throws `EdgepackError`: file-missing, file-corrupt; `OrtError`.
    public func selfTest() throws -> SelfTest {
        let cases = try bundle.manifest.golden.flatMap { golden in
            let inputs = try golden.inputs.map { ($0.name, try read($0.dtype, $0.shape, $0.path)) }
            let answers = try run(Dictionary(inputs, uniquingKeysWith: { $1 }))
            return try golden.expect.map { expect in
                let expected = try read(expect.dtype, expect.shape, expect.path)
                let (maxAbs, passed) = expected.compare(answers[expect.name], atol: expect.atol, rtol: expect.rtol)
                return Comparison(
                    golden: golden.name, output: expect.name, from: expect.from,
                    maxAbs: maxAbs, atol: expect.atol, rtol: expect.rtol, passed: passed)
            }
        }
        return SelfTest(cases: cases, report: report)
    }

    private func read(_ dtype: DType, _ shape: [Int], _ path: String) throws -> Tensor {
        Tensor(dtype: dtype, shape: shape, data: try bundle.manifest.read(path, in: bundle.folder))
    }

    /// The inputs in the model's order.
    private func check(_ inputs: [String: Tensor]) throws -> [Tensor] {
        var free: [String: Int] = [:]
        let tensors = try bundle.inputs.map { spec in
            guard let x = inputs[spec.name] else {
                throw EdgepackError(.inputMissing, "input \(spec) is not among \(inputs.keys.sorted())")
            }
            guard x.dtype == spec.dtype else { throw EdgepackError(.dtypeMismatch, "input \(spec): got \(x.dtype)") }
            guard spec.fits(x.shape, &free) else {
                throw EdgepackError(.shapeMismatch, "input \(spec): got \(x.shape), free sizes of this call: \(free)")
            }
            guard x.isFull else {
                throw EdgepackError(.shapeMismatch, "input \(spec): \(x.data.count) bytes do not fill \(x.shape)")
            }
            return x
        }
        if tensors.count < inputs.count {
            let unknown = Set(inputs.keys).subtracting(bundle.inputs.map(\.name)).sorted()
            throw EdgepackError(.inputUnknown, "\(unknown): the model takes \(bundle.inputs)")
        }
        return tensors
    }
}
