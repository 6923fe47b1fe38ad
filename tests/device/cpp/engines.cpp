// Opens a bundle as the board whose file system lies in a folder, runs its self-test, and prints the report:
// `engines BUNDLE LIBRARY CACHE BOARD`.
#include <iostream>

#include "edgepack.hpp"

static std::string names(const std::vector<std::string>& items) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ", ") + edgepack::to_json(item);
  return "[" + out + "]";
}

int main(int, char** arguments) {
  edgepack::Options options;
  options.library = arguments[2];
  options.cache_dir = arguments[3];
  options.board = edgepack::Board::read(arguments[4]);
  const auto session = edgepack::Bundle::open(arguments[1]).session(options);
  if (!session.warm_up(1) || !session.self_test().passed) return 1;
  const auto& report = session.report();
  std::string passed_over;
  for (const auto& [name, why] : report.passed_over) {
    passed_over += (passed_over.empty() ? "" : ", ") + edgepack::to_json(name) + ": " + edgepack::to_json(why);
  }
  const auto& board = *options.board;
  std::cout << "{\"provider\": " << edgepack::to_json(report.provider) << ", \"proven\": " << (report.proven ? "true" : "false")
            << ", \"passed_over\": {" << passed_over << "}, \"folder\": " << edgepack::to_json(report.engine_folder)
            << ", \"kept\": " << names(report.engines_kept) << ", \"removed\": " << names(report.engines_removed)
            << ", \"board\": " << names({board.board, board.l4t, board.tensorrt, board.sm}) << "}\n";
}
