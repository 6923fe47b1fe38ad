// Takes the suite through the C++ loader: `conformance SUITE LIBRARY`; see ../suite.py.
#include <iostream>

#include "edgepack.hpp"

using edgepack::Json;
using edgepack::to_json;

static std::string failure(const edgepack::Error& error) {
  return "{\"error\": {\"kind\": " + to_json(error.kind) + ", \"message\": " + to_json(error.what()) + "}}";
}

static edgepack::Tensor tensor(const Json& given) {
  std::vector<std::int64_t> shape;
  for (const auto& dim : given["shape"].list()) shape.push_back(dim.count());
  std::vector<std::uint8_t> bytes;
  const std::string hex = given["size"].count() == 0 ? "" : given["hex"].text();
  for (std::size_t k = 0; k < hex.size(); k += 2) bytes.push_back(static_cast<std::uint8_t>(std::stoi(hex.substr(k, 2), nullptr, 16)));
  return {given["dtype"].text(), shape, bytes};
}

static std::string call(const edgepack::Session& session, const Json& inputs) {
  try {
    edgepack::Tensors given;
    for (const auto& one : inputs.list()) given.emplace(one["name"].text(), tensor(one));
    std::string outputs;
    for (const auto& [name, y] : session.run(given)) {
      std::string hex, shape;
      for (const auto byte : y.bytes()) (hex += "0123456789abcdef"[byte >> 4]) += "0123456789abcdef"[byte & 15];
      for (const auto dim : y.shape()) shape += (shape.empty() ? "" : ", ") + std::to_string(dim);
      outputs += (outputs.empty() ? "" : ", ") + std::string("{\"name\": ") + to_json(name) + ", \"dtype\": " + to_json(y.dtype()) +
                 ", \"shape\": [" + shape + "], \"hex\": \"" + hex + "\"}";
    }
    return "{\"outputs\": [" + outputs + "]}";
  } catch (const edgepack::Error& error) {
    return failure(error);
  }
}

static std::string answer(const edgepack::fs::path& folder, const Json& calls, const std::string& library) {
  try {
    edgepack::Options options;
    options.library = library;
    const auto session = edgepack::Bundle::open(folder).session(options);
    const auto result = session.self_test();
    std::string cases, passed_over, answers;
    for (const auto& one : result.cases) {
      cases += (cases.empty() ? "" : ", ") + std::string("{\"case\": ") + to_json(one.golden) + ", \"output\": " + to_json(one.output) +
               ", \"from\": " + to_json(one.from) + ", \"max_abs\": " + (one.max_abs ? std::to_string(*one.max_abs) : "null") +
               ", \"passed\": " + (one.passed ? "true" : "false") + "}";
    }
    const auto& report = session.report();
    for (const auto& [name, why] : report.passed_over) {
      passed_over += (passed_over.empty() ? "" : ", ") + to_json(name) + ": " + to_json(why);
    }
    for (const auto& one : calls.list()) answers += (answers.empty() ? "" : ", ") + call(session, one);
    return "{\"self_test\": {\"passed\": " + std::string(result.passed ? "true" : "false") + ", \"cases\": [" + cases +
           "]}, \"report\": {\"provider\": " + to_json(report.provider) + ", \"passed_over\": {" + passed_over +
           "}, \"runtime_version\": " + to_json(report.runtime_version) + ", \"model_sha256\": " + to_json(report.model_sha256) +
           ", \"precision\": " + to_json(report.precision) + "}, \"calls\": [" + answers + "]}";
  } catch (const edgepack::Error& error) {
    return failure(error);
  }
}

int main(int, char** arguments) {
  const edgepack::fs::path suite = arguments[1];
  const Json plan = Json::parse(edgepack::detail::read_text(suite / "plan.json").value());
  std::string all;
  for (const auto& one : plan.list()) {
    all += (all.empty() ? "" : ",\n") + to_json(one["name"].text()) + ": " + answer(suite / one["folder"].text(), one["calls"], arguments[2]);
  }
  std::cout << "{" << all << "}\n";
}
