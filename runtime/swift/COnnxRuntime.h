// ONNX Runtime's C API for Swift: the framework in onnxruntime.xcframework has the header but no module map.
#include <onnxruntime/onnxruntime_c_api.h>
