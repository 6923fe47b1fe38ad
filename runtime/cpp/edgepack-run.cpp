// Checks an edgepack bundle on this machine. Build it here or elsewhere, as long as onnxruntime_c_api.h is 1.17 or newer:
//
//     g++ -std=c++17 -O2 -I ONNXRUNTIME/include loader/edgepack-run.cpp -o edgepack-run -ldl
//     ./edgepack-run self-test BUNDLE [--providers A,B] [--threads N] [--cache-dir DIR] [--library libonnxruntime.so]
//
// `self-test` runs the golden cases and compares, `report` opens the model and says what runs it, `check` compares every file
// with the manifest. Data go to stdout as one JSON object. Exit: 0 well, 1 a golden case missed, 2 an error.
#include "edgepack.hpp"

#include <iostream>

namespace {

using edgepack::to_json;

std::string list(const std::vector<std::string>& items) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ", ") + item;
  return out;
}

std::string names(std::vector<std::string> items) {
  for (auto& item : items) item = to_json(item);
  return "[" + list(items) + "]";
}

std::string number(double x) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out.precision(17);
  out << x;
  return out.str();
}

std::string as_json(const edgepack::Report& report) {
  std::vector<std::string> passed_over, nodes;
  for (const auto& [name, why] : report.passed_over) passed_over.push_back(to_json(name) + ": " + to_json(why));
  for (const auto& [name, count] : report.nodes) nodes.push_back(to_json(name) + ": " + std::to_string(count));
  const std::string cache = "{\"folder\": " + to_json(report.engine_folder) + ", \"kept\": " + names(report.engines_kept) +
                            ", \"removed\": " + names(report.engines_removed) + "}";
  return "{\"provider\": " + to_json(report.provider) + ", \"proven\": " + (report.proven ? "true" : "false") +
         ", \"nodes\": " + (nodes.empty() ? "null" : "{" + list(nodes) + "}") + ", \"fallback\": " + names(report.fallback) +
         ", \"passed_over\": {" + list(passed_over) + "}, \"runtime_version\": " + to_json(report.runtime_version) +
         ", \"model_sha256\": " + to_json(report.model_sha256) + ", \"precision\": " + to_json(report.precision) +
         ", \"engine_cache\": " + (report.engine_folder.empty() ? "null" : cache) + "}";
}

int self_test(const edgepack::Session& session) {
  const auto result = session.self_test();
  std::vector<std::string> cases;
  for (const auto& one : result.cases) {
    cases.push_back("{\"case\": " + to_json(one.golden) + ", \"output\": " + to_json(one.output) + ", \"from\": " + to_json(one.from) +
                    ", \"max_abs\": " + (one.max_abs ? number(*one.max_abs) : "null") + ", \"atol\": " + number(one.atol) +
                    ", \"rtol\": " + number(one.rtol) + ", \"passed\": " + (one.passed ? "true" : "false") +
                    (one.why.empty() ? "" : ", \"why\": " + to_json(one.why)) + "}");
    const std::string far = one.max_abs ? number(*one.max_abs) : one.why.empty() ? "not finite" : one.why;
    std::cerr << (one.passed ? "ok   " : "MISS ") << "case " << one.golden << ": " << one.output << " against " << one.from
              << ": max |a-b| " << far << ", allowed " << one.atol << " + " << one.rtol << "*|b|\n";
  }
  for (const auto& [name, why] : session.report().passed_over) std::cerr << "passed over " << name << ": " << why << "\n";
  std::cerr << (result.passed ? "passed" : result.cases.empty() ? "no golden cases" : "FAILED") << " on " << session.report().provider << "\n";
  std::cout << "{\"passed\": " << (result.passed ? "true" : "false") << ", \"cases\": [" << list(cases)
            << "], \"report\": " << as_json(session.report()) << "}\n";
  return result.passed ? 0 : 1;
}

int run(const std::vector<std::string>& words) {
  edgepack::Options wishes;
  std::vector<std::string> plain;
  for (std::size_t k = 0; k < words.size(); ++k) {
    if (words[k].rfind("--", 0) != 0) {
      plain.push_back(words[k]);
      continue;
    }
    if (k + 1 == words.size()) throw std::invalid_argument(words[k] + " needs a value");
    const std::string& key = words[k];
    const std::string& value = words[++k];
    if (key == "--providers") {
      std::istringstream parts(value);
      wishes.providers.emplace();
      for (std::string part; std::getline(parts, part, ',');) wishes.providers->push_back(part);
    } else if (key == "--threads") {
      wishes.threads = std::stoi(value);
    } else if (key == "--cache-dir") {
      wishes.cache_dir = value;
    } else if (key == "--library") {
      wishes.library = value;
    } else {
      throw std::invalid_argument("unknown option " + key);
    }
  }
  if (plain.empty() || plain.size() > 2) throw std::invalid_argument("usage: edgepack-run self-test|report|check [BUNDLE]");
  const auto bundle = edgepack::Bundle::open(plain.size() == 2 ? plain[1] : ".");
  if (plain[0] == "check") {
    const auto files = bundle.check();
    std::cout << "{\"files\": " << files << "}\n";
    return 0;
  }
  const auto session = bundle.session(wishes);
  if (plain[0] == "self-test") return self_test(session);
  if (plain[0] != "report") throw std::invalid_argument("unknown command " + plain[0]);
  std::cout << as_json(session.report()) << "\n";
  return 0;
}

int failed(const std::string& kind, const std::string& message) {
  std::cerr << "error: " << kind << ": " << message << "\n";
  std::cout << "{\"error\": {\"kind\": " << to_json(kind) << ", \"message\": " << to_json(message) << "}}\n";
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run({arguments + 1, arguments + count});
  } catch (const edgepack::Error& error) {
    return failed(error.kind, error.what());
  } catch (const std::invalid_argument& error) {
    return failed("usage", error.what());
  } catch (const std::exception& error) {  // everything else is onnxruntime's, while the model runs
    return failed("runtime-failed", error.what());
  }
}
