// A libonnxruntime.so on a board with TensorRT, as far as a loader can see it. Not TensorRT: the numbers come from the real CPU
// provider of the library that FAKE_REAL names.
//
// An engine is a file in `trt_engine_cache_path`: one that is there is loaded, else it is built, as the real provider does
// (onnxruntime, docs/execution-providers/TensorRT-ExecutionProvider.md). Each is noted, one a line, in FAKE_EVENTS.
// FAKE_FAILS=1: building dies half way. FAKE_DROPS=1: appending TensorRT fails, as without its libraries.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace {

OrtApiBase fake_base;
OrtApi fake_api;
const OrtApiBase* real_base;
const OrtApi* real_api;
std::map<std::string, std::string> options;  // of the one session that is being opened
bool appended;

OrtStatus* available(char*** names, int* count) noexcept {
  static char tensorrt[] = "TensorrtExecutionProvider", cuda[] = "CUDAExecutionProvider", cpu[] = "CPUExecutionProvider";
  static char* all[] = {tensorrt, cuda, cpu};
  *names = all;
  *count = 3;
  return nullptr;
}
OrtStatus* release_available(char**, int) noexcept { return nullptr; }
OrtStatus* create(OrtTensorRTProviderOptionsV2** out) noexcept {
  static char any;
  *out = reinterpret_cast<OrtTensorRTProviderOptionsV2*>(&any);
  options.clear();
  return nullptr;
}
OrtStatus* update(OrtTensorRTProviderOptionsV2*, const char* const* keys, const char* const* values, size_t count) noexcept {
  for (size_t k = 0; k < count; ++k) options[keys[k]] = values[k];
  return nullptr;
}
void release(OrtTensorRTProviderOptionsV2*) noexcept {}
OrtStatus* append(OrtSessionOptions*, const OrtTensorRTProviderOptionsV2*) noexcept {
  if (std::getenv("FAKE_DROPS") != nullptr) return real_api->CreateStatus(ORT_FAIL, "Please install TensorRT libraries");
  appended = true;
  return nullptr;
}
OrtStatus* append_cuda(OrtSessionOptions*, const OrtCUDAProviderOptionsV2*) noexcept {
  return real_api->CreateStatus(ORT_FAIL, "no CUDA device");
}
OrtStatus* create_cuda(OrtCUDAProviderOptionsV2** out) noexcept {
  static char any;
  *out = reinterpret_cast<OrtCUDAProviderOptionsV2*>(&any);
  return nullptr;
}
OrtStatus* update_cuda(OrtCUDAProviderOptionsV2*, const char* const*, const char* const*, size_t) noexcept { return nullptr; }
void release_cuda(OrtCUDAProviderOptionsV2*) noexcept {}

OrtStatus* session(const OrtEnv* env, const void* bytes, size_t size, const OrtSessionOptions* wishes, OrtSession** out) noexcept {
  if (appended && options["trt_engine_cache_enable"] == "1") {
    const auto engine = std::filesystem::path(options["trt_engine_cache_path"]) / "TensorrtExecutionProvider_graph_0.engine";
    std::ofstream events(std::getenv("FAKE_EVENTS"), std::ios::app);
    if (std::filesystem::exists(engine)) {
      std::string text;
      std::ifstream(engine) >> text;
      events << "loaded " << text << "\n";
    } else if (std::getenv("FAKE_FAILS") != nullptr) {
      std::ofstream(engine) << "half";
      appended = false;
      return real_api->CreateStatus(ORT_FAIL, "out of memory");
    } else {
      std::ofstream(engine) << "engine";
      events << "built engine\n";
    }
  }
  appended = false;
  return real_api->CreateSessionFromArray(env, bytes, size, wishes, out);
}

const OrtApi* api(uint32_t version) noexcept {
  if (version > 17) return nullptr;  // as an onnxruntime that cannot tell which provider took which node
  real_api = real_base->GetApi(version);
  std::memcpy(static_cast<void*>(&fake_api), real_api, sizeof fake_api);
  fake_api.GetAvailableProviders = available;
  fake_api.ReleaseAvailableProviders = release_available;
  fake_api.CreateTensorRTProviderOptions = create;
  fake_api.UpdateTensorRTProviderOptions = update;
  fake_api.ReleaseTensorRTProviderOptions = release;
  fake_api.SessionOptionsAppendExecutionProvider_TensorRT_V2 = append;
  fake_api.CreateCUDAProviderOptions = create_cuda;
  fake_api.UpdateCUDAProviderOptions = update_cuda;
  fake_api.ReleaseCUDAProviderOptions = release_cuda;
  fake_api.SessionOptionsAppendExecutionProvider_CUDA_V2 = append_cuda;
  fake_api.CreateSessionFromArray = session;
  return &fake_api;
}
const char* version() noexcept {
  const char* given = std::getenv("FAKE_VERSION");
  return given == nullptr ? "1.23.0" : given;
}

}  // namespace

extern "C" const OrtApiBase* OrtGetApiBase() noexcept {
  void* library = dlopen(std::getenv("FAKE_REAL"), RTLD_NOW);
  real_base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"))();
  fake_base = {api, version};
  return &fake_base;
}
