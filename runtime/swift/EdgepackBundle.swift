// edgepack's loader for Apple platforms. Apache-2.0.
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
  let manifest: Manifest, folder: URL, model: NSData

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
    for file in manifest.files where file.role == "model" { models[file.path] = try file.read(in: folder) }
    return Self(manifest: manifest, folder: folder, model: models[manifest.model.path]!)
  }
}

/// What the loader reads of manifest.json, under its names.
struct Manifest: Decodable {
  struct Model: Decodable { let path, precision: String }
  struct Provider: Decodable { let name: String, options: [String: String] }
  enum Level: String, Decodable { case disabled, basic, extended, all }
  struct Settings: Decodable { let graph_optimization_level: Level, intra_op_num_threads: Int, config: [String: String] }
  struct Runtime: Decodable { let min_version: String, providers: [Provider], session: Settings }
  struct Case: Decodable { let name: String, inputs, expect: [TensorSpec] }
  struct Head: Decodable { let schema: Int, critical: [String] }

  let model: Model, inputs, outputs: [TensorSpec], runtime: Runtime, golden: [Case], files: [File]

  init(_ json: Data) throws {
    func invalid(_ what: String) -> EdgepackError { EdgepackError("manifest-invalid", "manifest.json: \(what)") }
    func decode<T: Decodable>() throws -> T {
      do {
        return try JSONDecoder().decode(T.self, from: json)
      } catch DecodingError.keyNotFound(_, let it), DecodingError.typeMismatch(_, let it),
        DecodingError.valueNotFound(_, let it), DecodingError.dataCorrupted(let it)
      {
        throw invalid(it.codingPath.map { $0.stringValue + ": " }.joined() + it.debugDescription)
      }
    }
    func require(_ key: String, _ texts: [String], _ pattern: String) throws {
      for text in texts where text.range(of: "^(\(pattern))\\z", options: .regularExpression) == nil {
        throw invalid("\(key) '\(text)' is not \(pattern)")
      }
    }
    let head: Head = try decode()
    let known = "schema critical release target model inputs outputs runtime golden files build".split(separator: " ")
    guard head.schema == 1, head.critical.allSatisfy({ known.contains($0[...]) }) else {
      throw EdgepackError("schema-unsupported", "manifest.json: schema is \(head.schema), critical \(head.critical)")
    }
    self = try decode()
    let golden = golden.flatMap { $0.inputs + $0.expect }.map { $0.path ?? "" }
    try require("path", golden + files.map(\.path), #"((?!\.\.?(/|\z))[^/\\\x00]+(/(?!\z)|\z))+"#)
    try require("size", files.map { "\($0.size)" }, #"\d+"#)
    try require("sha256", files.map(\.sha256), "[0-9a-f]{64}")
    try require("min_version", [runtime.min_version], #"\d+(\.\d+)*"#)
    try require("intra_op_num_threads", ["\(runtime.session.intra_op_num_threads)"], #"\d+"#)
    let listed = Set(files.map(\.path)), models = files.filter { $0.role == "model" }.map(\.path)
    for path in Set(golden).subtracting(listed) + [model.path].filter({ !models.contains($0) }) {
      throw invalid("'\(path)' is not in files, or not in its role")
    }
  }
}

struct File: Decodable {
  let path: String, size: Int, sha256, role: String

  /// Its bytes, checked and memory-mapped.
  func read(in folder: URL) throws -> NSData {
    guard let data = try? NSData(contentsOf: folder.appendingPathComponent(path), options: .mappedIfSafe) else {
      throw EdgepackError("file-missing", "\(path) in \(folder.path)")
    }
    let found = SHA256.hash(data: Data(referencing: data)).map { String(format: "%02x", $0) }.joined()
    guard data.length == size, found == sha256 else {
      throw EdgepackError("file-corrupt", "\(path): \(data.length) bytes, SHA-256 \(found); manifest.json: \(size), \(sha256)")
    }
    return data
  }
}
