// The header in onnxruntime.xcframework has no module map.
#include <onnxruntime/onnxruntime_c_api.h>
