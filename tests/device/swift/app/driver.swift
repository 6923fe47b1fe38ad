// Opens a bundle and answers calls: the request is one JSON object on stdin, the answer one on stdout; see linux.py.
import Edgepack
import Foundation

struct Stored: Decodable { let name: String, dtype: DType, shape: [Int], path: String }

struct Request: Decodable {
    let bundle: String
    let providers: [String]?
    let threads: Int?
    let calls: [[Stored]]
    /// How many threads make each call at once; their answers must be equal.
    let at_once: Int
    let output: String
}

func failure(_ error: any Error) -> [String: Any] {
    let kind = (error as? EdgepackError)?.kind ?? "runtime-failed"
    return ["error": ["kind": kind, "message": error.localizedDescription]]
}

func answer(_ session: EdgepackSession, _ call: [Stored], _ atOnce: Int, _ folder: URL) throws -> [[String: Any]] {
    let inputs = Dictionary(
        uniqueKeysWithValues: try call.map { x in
            (x.name, Tensor(dtype: x.dtype, shape: x.shape, data: try Data(contentsOf: URL(fileURLWithPath: x.path))))
        })
    let outputs = try session.run(inputs)
    DispatchQueue.concurrentPerform(iterations: atOnce - 1) { _ in
        guard let again = try? session.run(inputs), again == outputs else { fatalError("threads disagree") }
    }
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return try outputs.enumerated().map { k, output in
        let path = folder.appendingPathComponent("\(k).bin")
        try output.value.data.write(to: path)
        return [
            "name": output.key, "dtype": output.value.dtype.rawValue, "shape": output.value.shape, "path": path.path,
            "floats": output.value.floats.map { $0.isNaN ? "nan" : "\($0)" },
        ]
    }
}

var result: [String: Any]
do {
    let request = try JSONDecoder().decode(Request.self, from: FileHandle.standardInput.readDataToEndOfFile())
    let bundle = try EdgepackBundle.open(URL(fileURLWithPath: request.bundle))
    let session = try bundle.session(providers: request.providers, threads: request.threads)
    result = [
        "provider": session.report.provider, "passed_over": session.report.passedOver,
        "answers": request.calls.enumerated().map { k, call -> [String: Any] in
            let folder = URL(fileURLWithPath: request.output).appendingPathComponent("\(k)")
            do {
                return ["outputs": try answer(session, call, request.at_once, folder)]
            } catch { return failure(error) }
        },
    ]
} catch {
    result = failure(error)
}
print(String(decoding: try JSONSerialization.data(withJSONObject: result), as: UTF8.self))
