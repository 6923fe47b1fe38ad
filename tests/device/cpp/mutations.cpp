// Reads a manifest and then thousands of broken ones: `mutations MANIFEST COUNT`. Prints how many were taken and refused; anything
// but edgepack::Error ends it, and so does the first byte that the sanitizers object to.
#include <iostream>
#include <random>

#include "edgepack.hpp"

int main(int, char** arguments) {
  const std::string good = edgepack::detail::read_text(arguments[1]).value();
  std::mt19937 random(7);
  const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  static const std::string likely = "{}[]\",:\\u0129-+eE.\xc3\x80\xf0\x9f null";
  std::size_t taken = 0, refused = 0;
  for (int k = 0, count = std::stoi(arguments[2]); k < count; ++k) {
    std::string text = good;
    for (std::size_t changes = below(3); changes < 3; ++changes) {
      const std::size_t at = below(text.size());
      switch (below(5)) {
        case 0: text[at] = static_cast<char>(below(256)); break;
        case 1: text[at] = likely[below(likely.size())]; break;
        case 2: text.erase(at, 1 + below(8)); break;
        case 3: text.insert(at, text.substr(below(text.size()), below(20))); break;
        default: text.insert(at, 1, likely[below(likely.size())]);
      }
      if (text.empty()) text = "{";
    }
    try {
      edgepack::detail::Manifest::parse(text);
      ++taken;
    } catch (const edgepack::Error& error) {
      if (error.kind != "manifest-invalid" && error.kind != "schema-unsupported") throw;
      ++refused;
    }
  }
  std::cout << taken << " " << refused << "\n";
}
