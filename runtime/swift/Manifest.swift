import CryptoKit
import Foundation

/// What a loader reads of manifest.json, under its own names.
struct Manifest: Decodable, Sendable {
    struct Model: Decodable, Sendable { let path: String, precision: String }
    struct Provider: Decodable, Sendable { let name: String, options: [String: String] }
    enum Level: String, Decodable, Sendable { case disabled, basic, extended, layout, all }
    struct Settings: Decodable, Sendable {
        let graph_optimization_level: Level, intra_op_num_threads: Int, config: [String: String]
    }
    struct Runtime: Decodable, Sendable { let min_version: String, providers: [Provider], session: Settings }
    struct Input: Decodable, Sendable { let name: String, dtype: DType, shape: [Int], path: String }
    struct Expectation: Decodable, Sendable {
        let name: String, from: String, dtype: DType, shape: [Int], path: String, atol: Double, rtol: Double
    }
    struct Case: Decodable, Sendable { let name: String, inputs: [Input], expect: [Expectation] }
    struct File: Decodable, Sendable { let path: String, size: Int, sha256: String, role: String }

    let model: Model, inputs: [TensorSpec], outputs: [TensorSpec], runtime: Runtime, golden: [Case], files: [File]

    private struct Head: Decodable { let schema: Int, critical: [String] }
    private static let known: Set = [
        "schema", "critical", "release", "target", "model", "inputs", "outputs", "runtime", "golden", "files", "build",
    ]

    /// Throws `EdgepackError`: schema-unsupported, manifest-invalid.
    init(json: Data) throws {
        let head: Head = try Manifest.decode(json)
        guard head.schema == 1 else {
            throw EdgepackError(.schemaUnsupported, "manifest.json: schema is \(head.schema), this loader knows 1")
        }
        let unknown = head.critical.filter { !Manifest.known.contains($0) }
        guard unknown.isEmpty else {
            throw EdgepackError(.schemaUnsupported, "manifest.json: critical names \(unknown), which this loader does not know")
        }
        self = try Manifest.decode(json)
        try validate()
    }

    var modelPaths: [String] { files.filter { $0.role == "model" }.map(\.path) }
    var modelSHA256: String { files.first { $0.path == model.path }!.sha256 }

    /// The bytes of a listed file, memory-mapped. Throws `EdgepackError`: file-missing, file-corrupt.
    func read(_ path: String, in folder: URL) throws -> Data {
        let file = files.first { $0.path == path }!
        let data: Data
        do {
            data = try Data(contentsOf: folder.appendingPathComponent(path), options: .mappedIfSafe)
        } catch {
            throw EdgepackError(.fileMissing, "\(path) in \(folder.path): \(error.localizedDescription)")
        }
        guard data.count == file.size else {
            throw EdgepackError(.fileCorrupt, "\(path) has \(data.count) bytes, manifest.json says \(file.size)")
        }
        let digest = SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
        guard digest == file.sha256 else {
            throw EdgepackError(.fileCorrupt, "\(path) has SHA-256 \(digest), manifest.json says \(file.sha256)")
        }
        return data
    }

    /// What types alone do not say.
    private func validate() throws {
        for specs in [inputs, outputs] where Set(specs.map(\.name)).count < specs.count {
            throw Manifest.invalid("a name comes twice among \(specs)")
        }
        let golden = golden.flatMap { $0.inputs.map(\.path) + $0.expect.map(\.path) }
        guard runtime.session.intra_op_num_threads >= 0 else {
            throw Manifest.invalid("runtime.session.intra_op_num_threads is \(runtime.session.intra_op_num_threads)")
        }
        for file in files where file.size < 0 { throw Manifest.invalid("files: '\(file.path)' has the size \(file.size)") }
        for file in files where !(file.sha256.utf8.count == 64 && file.sha256.allSatisfy("0123456789abcdef".contains)) {
            throw Manifest.invalid("files: '\(file.path)' has the sha256 '\(file.sha256)'")
        }
        for path in files.map(\.path) {  // by scalars: a Character may hide a slash under a combining mark
            let parts = path.unicodeScalars.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            let escapes = parts.contains { ["", ".", ".."].contains($0) }
            if escapes || path.unicodeScalars.contains(where: { $0 == "\\" || $0 == "\0" }) {
                throw Manifest.invalid("files: '\(path)' is not a path inside the bundle")
            }
        }
        guard runtime.min_version.range(of: #"^\d+(\.\d+)*\z"#, options: .regularExpression) != nil else {
            throw Manifest.invalid("runtime.min_version: '\(runtime.min_version)' is not a version")
        }
        let listed = Set(files.map(\.path))
        for path in golden where !listed.contains(path) { throw Manifest.invalid("golden: '\(path)' is not in files") }
        guard modelPaths.contains(model.path) else {
            throw Manifest.invalid("model.path: '\(model.path)' is not in files with the role model")
        }
    }

    private static func invalid(_ what: String) -> EdgepackError { EdgepackError(.manifestInvalid, "manifest.json: \(what)") }

    private static func decode<T: Decodable>(_ json: Data) throws -> T {
        func refuse(_ path: [any CodingKey], _ what: String) -> EdgepackError {
            let place = path.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
            return invalid(place.isEmpty ? what : "\(place.dropFirst()): \(what)")
        }
        do {
            return try JSONDecoder().decode(T.self, from: json)
        } catch DecodingError.keyNotFound(let key, let context) {
            throw refuse(context.codingPath + [key], "is missing")
        } catch DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.dataCorrupted(let context)
        {
            let cause = context.underlyingError.map { " \($0)" } ?? ""
            throw refuse(context.codingPath, context.debugDescription + cause)
        }
    }
}
