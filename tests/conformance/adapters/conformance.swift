// Takes the suite through the Swift loader: `conformance SUITE`; see ../suite.py.
import Edgepack
import Foundation

struct Given: Decodable { let name: String, dtype: DType, shape: [Int], hex: String }
struct Case: Decodable { let name: String, folder: String, calls: [[Given]] }

func failure(_ error: any Error) -> [String: Any] {
    let kind = (error as? EdgepackError)?.kind ?? "runtime-failed"
    return ["error": ["kind": kind, "message": error.localizedDescription]]
}

func bytes(_ hex: String) -> Data {
    let digits = Array(hex.utf8).map { $0 < 58 ? $0 - 48 : $0 - 87 }
    return Data(stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] })
}

func call(_ session: EdgepackSession, _ inputs: [Given]) -> [String: Any] {
    do {
        let tensors = try inputs.map { ($0.name, try Tensor(dtype: $0.dtype, shape: $0.shape, data: bytes($0.hex))) }
        let outputs = try session.run(Dictionary(uniqueKeysWithValues: tensors)).map { name, y -> [String: Any] in
            let hex = y.data.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
            return ["name": name, "dtype": y.dtype.rawValue, "shape": y.shape, "hex": hex]
        }
        return ["outputs": outputs]
    } catch { return failure(error) }
}

func answer(_ folder: URL, _ calls: [[Given]]) -> [String: Any] {
    do {
        let session = try EdgepackBundle.open(folder).session()
        let result = try session.selfTest(), report = session.report
        let cases = result.cases.map { one -> [String: Any] in
            let far: Any = one.maxAbs.isFinite ? one.maxAbs : NSNull()
            return ["case": one.golden, "output": one.output, "from": one.from, "passed": one.passed, "max_abs": far]
        }
        return [
            "self_test": ["passed": result.passed, "cases": cases],
            "report": [
                "provider": report.provider, "passed_over": report.passedOver, "runtime_version": report.runtimeVersion,
                "model_sha256": report.modelSHA256, "precision": report.precision,
            ],
            "calls": calls.map { call(session, $0) },
        ]
    } catch { return failure(error) }
}

let suite = URL(fileURLWithPath: CommandLine.arguments[1])
let plan = try JSONDecoder().decode([Case].self, from: Data(contentsOf: suite.appendingPathComponent("plan.json")))
let answers = plan.map { ($0.name, answer(suite.appendingPathComponent($0.folder), $0.calls)) }
let data = try JSONSerialization.data(withJSONObject: Dictionary(uniqueKeysWithValues: answers))
print(String(decoding: data, as: UTF8.self))
