// Median microseconds of one call, bare and through the loader, measured in turns: `loader_overhead BUNDLE LIBRARY CALLS`.
#include <chrono>
#include <iostream>

#include "edgepack.hpp"

template <class Call> static double microseconds(Call call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

static double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

int main(int, char** arguments) {
  edgepack::Options options;
  options.library = arguments[2];
  options.threads = 1;
  const auto bundle = edgepack::Bundle::open(arguments[1]);
  const auto session = bundle.session(options);
  const auto& spec = bundle.inputs().front();
  std::vector<std::int64_t> shape;
  for (const auto& dim : spec.shape) shape.push_back(dim.size);
  const edgepack::Tensors inputs{{spec.name, edgepack::Tensor::zeros(spec.dtype, shape)}};

  const edgepack::detail::Runtime runtime(options.library);
  const OrtApi* api = runtime.api;
  OrtSessionOptions* wishes = nullptr;
  OrtSession* bare = nullptr;
  runtime.check(api->CreateSessionOptions(&wishes));
  runtime.check(api->SetIntraOpNumThreads(wishes, 1));
  const auto model = edgepack::fs::path(arguments[1]) / "model/bench.onnx";
  runtime.check(api->CreateSession(runtime.env.get(), model.c_str(), wishes, &bare));
  const char* input = spec.name.c_str();
  const char* output = bundle.outputs().front().name.c_str();
  std::vector<std::uint8_t> bytes = inputs.at(spec.name).bytes();
  const auto call_bare = [&] {
    OrtValue *x = nullptr, *y = nullptr;
    void* answer = nullptr;
    runtime.check(api->CreateTensorWithDataAsOrtValue(runtime.memory.get(), bytes.data(), bytes.size(), shape.data(), shape.size(),
                                                      ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &x));
    runtime.check(api->Run(bare, nullptr, &input, &x, 1, &output, 1, &y));
    runtime.check(api->GetTensorMutableData(y, &answer));
    api->ReleaseValue(y);
    api->ReleaseValue(x);
  };
  std::vector<double> plain, through;
  for (int k = 0, calls = std::stoi(arguments[3]); k < 2 * calls; ++k) {
    const double a = microseconds(call_bare), b = microseconds([&] { session.run(inputs); });
    if (k >= calls) plain.push_back(a), through.push_back(b);
  }
  std::cout << "{\"bare_us\": " << median(plain) << ", \"loader_us\": " << median(through) << "}\n";
}
