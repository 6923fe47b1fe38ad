// Opens a bundle and answers calls: the request is one JSON object on stdin, the answer one on stdout; see linux.py.
import Edgepack
import Foundation

struct Stored: Decodable { let name: String, dtype: DType, shape: [Int], path: String }
struct Image: Decodable { let path: String, width: Int, height: Int }

struct Request: Decodable {
    let bundle: String
    let providers: [String]?
    let threads: Int?
    let calls: [[Stored]]
    let images: [Image]
    /// How many threads, and then as many tasks, make each call at once; their answers must be equal.
    let at_once: Int
    /// How many sessions are opened, run and closed one after the other, before anything else.
    let sessions: Int
    let output: String
}

func failure(_ error: any Error) -> [String: Any] {
    let kind = (error as? EdgepackError)?.kind ?? "runtime-failed"
    return ["error": ["kind": kind, "message": error.localizedDescription]]
}

func stored(_ name: String, _ tensor: Tensor, _ path: URL) throws -> [String: Any] {
    try FileManager.default.createDirectory(at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
    try tensor.data.write(to: path)
    return [
        "name": name, "dtype": tensor.dtype.rawValue, "shape": tensor.shape, "path": path.path,
        "floats": tensor.floats.map { $0.isNaN ? "nan" : "\($0)" },
    ]
}

func inputs(_ call: [Stored]) throws -> [String: Tensor] {
    let tensors = try call.map { x in
        (x.name, try Tensor(dtype: x.dtype, shape: x.shape, data: try Data(contentsOf: URL(fileURLWithPath: x.path))))
    }
    return Dictionary(uniqueKeysWithValues: tensors)
}

func answer(_ session: EdgepackSession, _ call: [Stored], _ atOnce: Int, _ folder: URL) async throws -> [[String: Any]] {
    let inputs = try inputs(call)
    let outputs = try await session.run(inputs)
    inThreads(atOnce - 1) { (try? session.run(inputs)) == outputs }
    try await withThrowingTaskGroup(of: [String: Tensor].self) { group in
        for _ in 1..<atOnce { group.addTask { try await session.run(inputs) } }
        for try await again in group { precondition(again == outputs, "tasks disagree") }
    }
    return try outputs.enumerated().map { k, output in
        try stored(output.key, output.value, folder.appendingPathComponent("\(k).bin"))
    }
}

func inThreads(_ count: Int, agree: @Sendable () -> Bool) {
    DispatchQueue.concurrentPerform(iterations: count) { _ in precondition(agree(), "threads disagree") }
}

/// Resident memory in KiB after each of `count` sessions that made the call.
func residentAfterSessions(_ count: Int, _ request: Request) throws -> [Int] {
    try (0..<count).map { _ in
        let session = try EdgepackBundle.open(URL(fileURLWithPath: request.bundle)).session()
        for call in request.calls { _ = try session.run(try inputs(call)) }
        let pages = try String(contentsOfFile: "/proc/self/statm", encoding: .ascii).split(separator: " ")[1]
        return Int(pages)! * 4
    }
}

func answer(_ request: Request) async throws -> [String: Any] {
    let resident = try residentAfterSessions(request.sessions, request)
    let bundle = try EdgepackBundle.open(URL(fileURLWithPath: request.bundle))
    let session = try bundle.session(providers: request.providers, threads: request.threads)
    var answers: [[String: Any]] = [], images: [[String: Any]] = []
    for (k, call) in request.calls.enumerated() {
        let folder = URL(fileURLWithPath: request.output).appendingPathComponent("\(k)")
        do {
            answers.append(["outputs": try await answer(session, call, request.at_once, folder)])
        } catch { answers.append(failure(error)) }
    }
    for (k, image) in request.images.enumerated() {
        do {
            let pixels = [UInt8](try Data(contentsOf: URL(fileURLWithPath: image.path)))
            let tensor = try bundle.image(rgba: pixels, width: image.width, height: image.height)
            let path = URL(fileURLWithPath: request.output).appendingPathComponent("images/\(k).bin")
            images.append(["outputs": [try stored("image", tensor, path)]])
        } catch { images.append(failure(error)) }
    }
    return [
        "provider": session.report.provider, "passed_over": session.report.passedOver, "resident": resident,
        "answers": answers, "images": images,
    ]
}

func json(_ request: Request) async throws -> String {
    var result: [String: Any]
    do { result = try await answer(request) } catch { result = failure(error) }
    return String(decoding: try JSONSerialization.data(withJSONObject: result), as: UTF8.self)
}

print(try await json(JSONDecoder().decode(Request.self, from: FileHandle.standardInput.readDataToEndOfFile())))
