// The golden cases, on the device. An app that does without `golden` in its release does without this file.
import Foundation
#if canImport(COnnxRuntime)
import COnnxRuntime
#endif

/// One output of a golden case against one expectation: passed if all |a − b| ≤ atol + rtol·|b|, b expected.
public struct Comparison: Sendable {
  public let golden, output, from: String, atol, rtol: Double
  public private(set) var maxAbs = Double.nan, passed = false

  fileprivate mutating func compare(_ answer: Tensor, with expected: Tensor) throws {
    guard answer.dtype == expected.dtype, answer.shape == expected.shape else { return }
    (maxAbs, passed) = (0, true)
    for (miss, b) in zip(try distances(answer, expected), expected.doubles) where miss != 0 {
      (maxAbs, passed) = (max(maxAbs, miss), passed && miss.isFinite && miss <= atol + rtol * abs(b))
    }
  }
}

/// Each |a − b|, of integers exactly, also where Double has not all of them; infinite where one alone is NaN.
private func distances(_ answer: Tensor, _ expected: Tensor) throws -> [Double] {
  func exact<T: FixedWidthInteger>(_: T.Type) throws -> [Double] {
    zip(try answer.values(T.self), try expected.values(T.self)).map { a, b in
      Double(T.Magnitude(truncatingIfNeeded: a > b ? a &- b : b &- a))
    }
  }
  return switch answer.dtype {
  case .int64: try exact(Int64.self)
  case .uint64: try exact(UInt64.self)
  default:
    zip(answer.doubles, expected.doubles).map { a, b in
      a == b || (a.isNaN && b.isNaN) ? 0 : (a - b).isNaN ? .infinity : abs(a - b)
    }
  }
}

/// `nodes`: the model's, by provider; ONNX Runtime 1.29 tells for .onnx, not for .ort models: then empty.
public struct SelfTest: Sendable {
  public let cases: [Comparison], report: SessionReport, nodes: [String: Int]
  public var passed: Bool { !cases.isEmpty && cases.allSatisfy(\.passed) }
}

/// What the self-test reads of manifest.json.
private struct Golden: Decodable {
  struct Input: Decodable { let name, path: String, dtype: DType, shape: [Int] }
  struct Expected: Decodable { let name, path, from: String, dtype: DType, shape: [Int], atol, rtol: Double }
  struct Case: Decodable { let name: String, inputs: [Input], expect: [Expected] }
  let golden: [Case]
}

extension EdgepackSession {
  /// Runs the golden cases; a miss is reported, not thrown.
  public func selfTest() throws -> SelfTest {
    let cases = try Golden(json: bundle.json).golden.flatMap { golden in
      let inputs = try golden.inputs.map { ($0.name, try stored($0.path, $0.dtype, $0.shape)) }
      let answers = try run(Dictionary(inputs) { $1 })
      return try golden.expect.map { x in
        var one = Comparison(golden: golden.name, output: x.name, from: x.from, atol: x.atol, rtol: x.rtol)
        if let answer = answers[x.name] { try one.compare(answer, with: try stored(x.path, x.dtype, x.shape)) }
        return one
      }
    }
    return SelfTest(cases: cases, report: report, nodes: (try? countNodes()) ?? [:])
  }

  private func stored(_ path: String, _ dtype: DType, _ shape: [Int]) throws -> Tensor {
    guard let file = bundle.manifest.files.first(where: { $0.path == path }) else {
      try invalid("files lists no '\(path)'")
    }
    return try Tensor(dtype: dtype, shape: shape, data: try file.read(in: bundle.folder) as Data)
  }

  private func countNodes() throws -> [String: Int] {
    var parts, list: UnsafePointer<OpaquePointer?>?, partCount = 0, count = 0, name: UnsafePointer<CChar>?
    var nodes: [String: Int] = [:]
    try ok(ort.Session_GetEpGraphAssignmentInfo(session, &parts, &partCount))
    for part in UnsafeBufferPointer(start: parts, count: partCount) {
      try ok(ort.EpAssignedSubgraph_GetEpName(part, &name))
      try ok(ort.EpAssignedSubgraph_GetNodes(part, &list, &count))
      nodes[String(cString: name!), default: 0] += count
    }
    return nodes
  }
}
