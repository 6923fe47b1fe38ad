// The golden cases, on the device. An app that does without `golden` in its release does without this file.
import Foundation

/// One output of a golden case against one expectation: passed if all |a − b| ≤ atol + rtol·|b|, b expected.
public struct Comparison: Sendable {
  public let golden, output, from: String, atol, rtol: Double
  public private(set) var maxAbs = Double.nan, passed = false

  fileprivate mutating func compare(_ answer: Tensor, with expected: Tensor) {
    guard answer.dtype == expected.dtype, answer.shape == expected.shape, expected.isFull else { return }
    (maxAbs, passed) = (0, true)
    for (a, b) in zip(answer.doubles, expected.doubles) where a != b && !(a.isNaN && b.isNaN) {
      let miss = (a - b).isNaN ? .infinity : abs(a - b)
      (maxAbs, passed) = (max(maxAbs, miss), passed && miss.isFinite && miss <= atol + rtol * abs(b))
    }
  }
}

public struct SelfTest: Sendable {
  public let cases: [Comparison], report: SessionReport
  public var passed: Bool { !cases.isEmpty && cases.allSatisfy(\.passed) }
}

extension EdgepackSession {
  /// Runs the golden cases; a miss is reported, not thrown.
  public func selfTest() throws -> SelfTest {
    func read(_ x: Manifest.Stored) throws -> Tensor {
      let data = try bundle.manifest.read(x.path, in: bundle.folder)
      return Tensor(dtype: x.dtype, shape: x.shape, data: Data(referencing: data))
    }
    let cases = try bundle.manifest.golden.flatMap { golden in
      let answers = try run(Dictionary(golden.inputs.map { ($0.name, try read($0)) }) { $1 })
      return try golden.expect.map { x in
        var one = Comparison(golden: golden.name, output: x.name, from: x.from ?? "", atol: x.atol ?? 0, rtol: x.rtol ?? 0)
        if let answer = answers[x.name] { one.compare(answer, with: try read(x)) }
        return one
      }
    }
    return SelfTest(cases: cases, report: report)
  }
}
