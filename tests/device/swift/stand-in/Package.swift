// swift-tools-version:5.9
// Stands in for Microsoft's onnxruntime-swift-package-manager on Linux: the same product, over the iOS framework's own
// headers (copied to Sources/onnxruntime/include/onnxruntime) and libonnxruntime.so; and for Apple's CryptoKit.
import PackageDescription

let package = Package(
    name: "onnxruntime",
    products: [.library(name: "onnxruntime", type: .static, targets: ["onnxruntime", "CryptoKit"])],
    targets: [
        // By its file name, since SwiftPM names the product's own archive libonnxruntime.a.
        .target(name: "onnxruntime", linkerSettings: [.linkedLibrary(":libonnxruntime.so")]),
        .target(name: "CryptoKit"),
    ]
)
