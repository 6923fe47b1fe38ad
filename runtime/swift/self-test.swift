// swift run self-test [bundle folder]: the self-test's report as one JSON object.
// Exit code 0: passed, 1: failed, 2: could not run.
import Edgepack
import Foundation

func finish(_ code: Int32, _ answer: [String: Any]) throws -> Never {
    let json = try JSONSerialization.data(withJSONObject: answer, options: .sortedKeys)
    print(String(decoding: json, as: UTF8.self))
    exit(code)
}

do {
    let folder = CommandLine.arguments.dropFirst().first.map { URL(fileURLWithPath: $0) }
    let result = try (folder.map(EdgepackBundle.open) ?? EdgepackBundle.open()).session().selfTest()
    let report = result.report
    try finish(result.passed ? 0 : 1, [
        "passed": result.passed,
        "cases": result.cases.map { x -> [String: Any] in
            [
                "case": x.golden, "output": x.output, "from": x.from, "atol": x.atol, "rtol": x.rtol,
                "passed": x.passed, "max_abs": x.maxAbs.isFinite ? x.maxAbs : NSNull(),
            ]
        },
        "report": [
            "provider": report.provider, "nodes": result.nodes,
            "passed_over": report.passedOver, "runtime_version": report.runtimeVersion,
            "model_sha256": report.modelSHA256, "precision": report.precision,
        ],
    ])
} catch {
    let kind = (error as? EdgepackError)?.kind ?? "runtime-failed"
    try finish(2, ["error": ["kind": kind, "message": error.localizedDescription]])
}
