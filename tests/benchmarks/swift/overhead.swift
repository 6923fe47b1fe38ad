// overhead BUNDLE SECONDS: one call through the loader, one of the bare session, in turn; see ../swift_overhead.py.
// Compiled as one module with the loader's own files, so that the C API is the same and the optimizer sees both.
import Foundation

/// ONNX Runtime's C API as an app would call it that knows its one model: inputs made once, output copied out.
final class Bare {
    let api = OrtGetApiBase().pointee.GetApi(UInt32(ORT_API_VERSION))!
    var env, options, session, memory: OpaquePointer?
    var inputs: [OpaquePointer?]
    let inputNames, outputNames: [UnsafePointer<CChar>?]
    let held: [Data], size: Int

    init(_ bundle: EdgepackBundle, _ tensors: [String: Tensor], size: Int) {
        let ort = api.pointee, model = bundle.model.data, specs = bundle.manifest.inputs
        held = specs.map { tensors[$0.name]!.data }  // the very bytes that the loader is given
        inputs = Array(repeating: nil, count: tensors.count)
        inputNames = specs.map { UnsafePointer(strdup($0.name)) }
        outputNames = bundle.manifest.outputs.map { UnsafePointer(strdup($0.name)) }
        self.size = size
        _ = ort.CreateEnv(ORT_LOGGING_LEVEL_WARNING, "bare", &env)
        _ = ort.CreateSessionOptions(&options)
        _ = ort.SetIntraOpNumThreads(options, 1)
        _ = ort.CreateSessionFromArray(env, model.bytes, model.length, options, &session)
        _ = ort.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory)
        for (k, spec) in specs.enumerated() {
            let x = tensors[spec.name]!
            let bytes = held[k].withUnsafeBytes { UnsafeMutableRawPointer(mutating: $0.baseAddress) }
            _ = ort.CreateTensorWithDataAsOrtValue(
                memory, bytes, held[k].count, x.shape.map(Int64.init), x.shape.count,
                ONNXTensorElementDataType(x.dtype.number), &inputs[k])
        }
    }

    func run() -> [Float] {
        let ort = api.pointee
        var output: OpaquePointer?, data: UnsafeMutableRawPointer?
        precondition(ort.Run(session, nil, inputNames, inputs, inputs.count, outputNames, 1, &output) == nil)
        defer { ort.ReleaseValue(output) }
        precondition(ort.GetTensorMutableData(output, &data) == nil)
        return Array(UnsafeRawBufferPointer(start: data, count: size).bindMemory(to: Float.self))
    }
}

@main struct Overhead {
    static func seconds(_ body: () throws -> [Float]) rethrows -> (Double, [Float]) {
        let start = DispatchTime.now().uptimeNanoseconds
        let answer = try body()
        return (Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9, answer)
    }

    static func main() throws {
        let folder = URL(fileURLWithPath: CommandLine.arguments[1]), time = Double(CommandLine.arguments[2])!
        let bundle = try EdgepackBundle.open(folder), session = try bundle.session(threads: 1)
        let spec = bundle.manifest.inputs[0], golden = bundle.manifest.files.first { $0.role == "golden" }!
        let data = try Data(contentsOf: folder.appendingPathComponent(golden.path))
        let inputs = [spec.name: try Tensor(dtype: spec.dtype, shape: spec.shape.map { $0.fixed! }, data: data)]
        let output = bundle.manifest.outputs[0].name, size = try session.run(inputs)[output]!.data.count
        let bare = Bare(bundle, inputs, size: size)
        var loader: [Double] = [], alone: [Double] = [], ratios: [Double] = []
        let end = Date(timeIntervalSinceNow: time)
        for k in 0... {
            if Date() > end { break }
            // Each goes first every other time.
            let order = k % 2 == 0
            let early = order ? nil : seconds(bare.run)
            let a = try seconds { try session.run(inputs)[output]!.floats }
            let b = early ?? seconds(bare.run)
            precondition(a.1 == b.1, "not the same answer")
            if k < 20 { continue }
            (loader, alone, ratios) = (loader + [a.0], alone + [b.0], ratios + [a.0 / b.0])
        }
        func median(_ x: [Double]) -> Double { x.sorted()[x.count / 2] }
        let answer = ["loader_s": median(loader), "bare_s": median(alone), "ratio": median(ratios), "pairs": Double(ratios.count)]
        print(String(decoding: try JSONEncoder().encode(answer), as: UTF8.self))
    }
}
