// edgepack's loader for C++17 on Linux: opens a bundle, checks its bytes, runs its model on ONNX Runtime. Apache-2.0.
//
//     #include "edgepack.hpp"
//     auto session = edgepack::Bundle::open("digits-jetson-orin").session();
//     auto answers = session.run({{"image", edgepack::Tensor::of<float>(pixels, {1, 8, 8, 1})}});
//     const float* probabilities = answers.at("probabilities").as<float>();
//
// Needs onnxruntime_c_api.h (1.17 or newer) to compile and -ldl to link; libonnxruntime.so of any version from the bundle's
// min_version on is loaded when the first session opens, so one program runs on every JetPack.
// In order: JSON, SHA-256, tensors, manifest, files, board, engine cache, ONNX Runtime, bundle and session.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <onnxruntime_c_api.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace edgepack {

namespace fs = std::filesystem;

/// A bundle or a call that is refused. `kind` is one of the loader contract's words, such as "file-corrupt".
class Error : public std::runtime_error {
 public:
  Error(std::string word, const std::string& message) : std::runtime_error(message), kind(std::move(word)) {}
  const std::string kind;
};

// --- JSON (RFC 8259), for reading a manifest ---------------------------------------------------------

/// A JSON value that knows its place in the document; what is asked of it and is not there is `manifest-invalid`.
class Json {
 public:
  enum class Type { null, boolean, number, text, list, object };

  static Json parse(const std::string& text) {
    Parser parser{text};
    Json whole = parser.value(0);
    parser.space();
    if (parser.at != text.size()) parser.fail("there is more behind the end");
    whole.name("");
    return whole;
  }

  bool is(Type type) const { return type_ == type; }
  const std::string& place() const { return place_; }
  bool has(const std::string& key) const { return is(Type::object) && find(key) != nullptr; }

  const Json& operator[](const std::string& key) const {
    if (!is(Type::object)) fail("an object");
    if (const Json* found = find(key)) return *found;
    throw Error("manifest-invalid", "manifest.json: " + (place_.empty() ? key : place_ + "." + key) + " is missing");
  }
  const std::vector<Json>& list() const { return is(Type::list) ? items_ : fail("a list").items_; }
  const std::string& text() const { return is(Type::text) && !text_.empty() ? text_ : fail("a text").text_; }
  double number() const { return is(Type::number) ? number_ : fail("a number").number_; }
  bool boolean() const { return is(Type::boolean) ? number_ != 0 : fail("true or false").number_ != 0; }

  std::int64_t count() const {
    const bool whole = is(Type::number) && number_ >= 0 && number_ <= 9007199254740991.0 && number_ == std::floor(number_);
    return static_cast<std::int64_t>(whole ? number_ : fail("a whole number of at least 0").number_);
  }
  double bound() const { return is(Type::number) && number_ >= 0 ? number_ : fail("a number of at least 0").number_; }
  std::vector<std::pair<std::string, std::string>> texts() const {
    if (!is(Type::object)) fail("an object of texts");
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const auto& item : items_) {
      if (!item.is(Type::text)) item.fail("a text");
      pairs.emplace_back(item.key_, item.text_);
    }
    return pairs;
  }

  /// A relative path that stays below its folder.
  const std::string& path() const {
    const std::string& all = is(Type::text) ? text_ : fail("a path").text_;
    char before = '/';
    bool good = true;
    for (const char c : all) {  // no part begins with a dot, and nothing needs an escape in a URL
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
      good = good && (plain || (before != '/' && (c == '.' || c == '-' || c == '/')));
      before = c;
    }
    if (!good || before == '/') fail("a path inside the bundle");
    return all;
  }
  const std::string& one_of(const std::vector<std::string>& words) const {
    if (is(Type::text) && std::find(words.begin(), words.end(), text_) != words.end()) return text_;
    std::string all;
    for (const auto& word : words) all += (all.empty() ? "" : ", ") + word;
    return fail("one of " + all).text_;
  }
  [[noreturn]] const Json& fail(const std::string& expected) const {
    static const char* const kinds[] = {"null", "true or false", "a number", "a text", "a list", "an object"};
    std::string got = kinds[static_cast<int>(type_)];
    if (is(Type::text)) got = "'" + text_.substr(0, 80) + "'";
    if (is(Type::number)) got = raw_;
    const std::string where = place_.empty() ? "the whole" : place_;
    throw Error("manifest-invalid", "manifest.json: " + where + " is " + got + ", expected " + expected);
  }

 private:
  struct Parser {
    const std::string& text;
    std::size_t at = 0;

    [[noreturn]] void fail(const std::string& why) const {
      throw Error("manifest-invalid", "manifest.json is no JSON: " + why + " at byte " + std::to_string(at));
    }
    void space() {
      while (at < text.size() && std::strchr(" \t\r\n", text[at]) != nullptr && text[at] != '\0') ++at;
    }
    char peek() {
      space();
      return at < text.size() ? text[at] : '\0';
    }
    void expect(char c) {
      if (peek() != c) fail(std::string("expected '") + c + "'");
      ++at;
    }
    Json value(int depth) {
      if (depth > 64) fail("it is nested too deep");
      Json made;
      const char c = peek();
      if (c == '{' || c == '[') {
        members(made, c == '{', depth);
      } else if (c == '"') {
        made.type_ = Type::text;
        made.text_ = string();
      } else if (c == '-' || (c >= '0' && c <= '9')) {
        made.type_ = Type::number;
        number(made);
      } else {
        word(made);
      }
      return made;
    }
    void members(Json& made, bool object, int depth) {
      made.type_ = object ? Type::object : Type::list;
      const char end = object ? '}' : ']';
      ++at;
      if (peek() == end) {
        ++at;
        return;
      }
      for (;;) {
        std::string key;
        if (object) {
          if (peek() != '"') fail("expected a key");
          key = string();
          expect(':');
          if (made.find(key) != nullptr) fail("the key '" + key + "' is there twice");
        }
        made.items_.push_back(value(depth + 1));
        made.items_.back().key_ = key;
        if (peek() == end) break;
        expect(',');
      }
      ++at;
    }
    void word(Json& made) {
      for (const auto& [letters, type, value] : {std::tuple{"null", Type::null, 0.0}, std::tuple{"true", Type::boolean, 1.0},
                                                 std::tuple{"false", Type::boolean, 0.0}}) {
        if (text.compare(at, std::strlen(letters), letters) == 0) {
          at += std::strlen(letters);
          made.type_ = type;
          made.number_ = value;
          return;
        }
      }
      fail("expected a value");
    }
    void digits() {
      const auto start = at;
      while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
      if (at == start) fail("expected a digit");
    }
    void number(Json& made) {
      const auto start = at;
      if (text[at] == '-') ++at;
      const auto first = at;
      digits();
      if (text[first] == '0' && at > first + 1) fail("a number begins with 0");
      if (at < text.size() && text[at] == '.') {
        ++at;
        digits();
      }
      if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
        ++at;
        if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
        digits();
      }
      made.raw_ = text.substr(start, at - start);
      // In the classic locale, whatever the program has set.
      std::istringstream stream(made.raw_);
      stream.imbue(std::locale::classic());
      stream >> made.number_;
      if (!std::isfinite(made.number_) || (stream.fail() && std::fabs(made.number_) > 1)) fail("a number is too large");
    }
    std::uint32_t hex() {
      std::uint32_t code = 0;
      if (at + 4 > text.size()) fail("a \\u escape is cut off");
      const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 4, code, 16);
      if (error != std::errc() || end != text.data() + at + 4) fail("a \\u escape without four hex digits");
      at += 4;
      return code;
    }
    static void append(std::string& out, std::uint32_t code) {
      const auto put = [&out](std::uint32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
      if (code < 0x80) {
        put(code);
      } else if (code < 0x800) {
        put(0xc0 | code >> 6), put(0x80 | (code & 0x3f));
      } else if (code < 0x10000) {
        put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
      } else {
        put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
      }
    }
    std::string string() {
      std::string out;
      for (++at; at < text.size() && text[at] != '"';) {
        if (static_cast<unsigned char>(text[at]) < 0x20) fail("a control character in a text");
        if (text[at] != '\\') {
          utf8(out);
          continue;
        }
        if (++at == text.size()) break;
        const char escape = text[at++];
        static const std::string from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
        if (const auto k = from.find(escape); k != std::string::npos) {
          out += to[k];
        } else if (escape == 'u') {
          std::uint32_t code = hex();
          if (code >= 0xd800 && code < 0xdc00 && text.compare(at, 2, "\\u") == 0) {
            at += 2;
            const std::uint32_t low = hex();
            if (low < 0xdc00 || low > 0xdfff) fail("half a surrogate pair");
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
          } else if (code >= 0xd800 && code <= 0xdfff) {
            fail("half a surrogate pair");
          }
          append(out, code);
        } else {
          fail("an unknown escape");
        }
      }
      if (at >= text.size()) fail("a text does not end");
      ++at;
      return out;
    }
    void utf8(std::string& out) {
      const auto lead = static_cast<unsigned char>(text[at]);
      const std::size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
      if (length == 0 || at + length > text.size()) fail("it is not UTF-8");
      for (std::size_t k = 1; k < length; ++k) {
        if ((static_cast<unsigned char>(text[at + k]) & 0xc0) != 0x80) fail("it is not UTF-8");
      }
      out.append(text, at, length);
      at += length;
    }
  };

  const Json* find(const std::string& key) const {
    for (const auto& item : items_) {
      if (item.key_ == key) return &item;
    }
    return nullptr;
  }
  void name(const std::string& place) {
    place_ = place;
    for (std::size_t k = 0; k < items_.size(); ++k) {
      items_[k].name(is(Type::list) ? place + "[" + std::to_string(k) + "]" : (place.empty() ? "" : place + ".") + items_[k].key_);
    }
  }

  Type type_ = Type::null;
  std::string text_, raw_, key_, place_;
  double number_ = 0;
  std::vector<Json> items_;
};

/// `text` as a JSON string, for programs that print reports.
inline std::string to_json(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      (out += '\\') += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      static const char digits[] = "0123456789abcdef";
      ((out += "\\u00") += digits[c >> 4]) += digits[c & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// --- SHA-256 (FIPS 180-4) ----------------------------------------------------------------------------

class Sha256 {
 public:
  Sha256& add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    for (total_ += size; size > 0;) {
      const std::size_t part = std::min(size, block_.size() - filled_);
      std::copy_n(bytes, part, block_.begin() + static_cast<std::ptrdiff_t>(filled_));
      bytes += part, size -= part, filled_ += part;
      if (filled_ == block_.size()) compress(), filled_ = 0;
    }
    return *this;
  }
  Sha256& add(const std::string& text) { return add(text.data(), text.size()); }

  std::string hex() {
    const std::uint64_t bits = total_ * 8;
    add("\x80", 1);
    while (filled_ != 56) add("", 1);
    std::array<std::uint8_t, 8> length{};
    for (int k = 0; k < 8; ++k) length[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(bits >> (56 - 8 * k));
    add(length.data(), 8);
    std::string out;
    for (const std::uint32_t word : state_) {
      for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[word >> shift & 15];
    }
    return out;
  }

 private:
  static std::uint32_t turn(std::uint32_t x, int by) { return x >> by | x << (32 - by); }
  void compress() {
    static constexpr std::uint32_t K[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
        0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
        0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
        0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
        0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
        0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    std::array<std::uint32_t, 64> w{};
    for (std::size_t k = 0; k < 16; ++k) {
      for (std::size_t b = 0; b < 4; ++b) w[k] = w[k] << 8 | block_[4 * k + b];
    }
    for (std::size_t k = 16; k < 64; ++k) {
      const std::uint32_t a = w[k - 15], b = w[k - 2];
      w[k] = w[k - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[k - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t k = 0; k < 64; ++k) {
      const std::uint32_t x = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[k] + w[k];
      const std::uint32_t y = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + x, d = c, c = b, b = a, a = x + y;
    }
    const std::array<std::uint32_t, 8> now{a, b, c, d, e, f, g, h};
    for (std::size_t k = 0; k < 8; ++k) state_[k] += now[k];
  }

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> block_{};
  std::size_t filled_ = 0;
  std::uint64_t total_ = 0;
};

// --- tensors -----------------------------------------------------------------------------------------

namespace detail {

struct Dtype {
  const char* name;
  std::size_t size;
  ONNXTensorElementDataType code;
};
inline const std::vector<Dtype>& dtypes() {
  static const std::vector<Dtype> all{
      {"float32", 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},   {"float16", 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
      {"float64", 8, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE},  {"int8", 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},
      {"uint8", 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},     {"int16", 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16},
      {"uint16", 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16},   {"int32", 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
      {"uint32", 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32},   {"int64", 8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
      {"uint64", 8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64},   {"bool", 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL}};
  return all;
}
inline const Dtype& dtype(const std::string& name) {
  for (const auto& one : dtypes()) {
    if (name == one.name) return one;
  }
  throw Error("dtype-mismatch", "'" + name + "' is not a dtype");
}
template <class T> constexpr const char* name_of() {
  static_assert(std::is_arithmetic_v<T>, "tensors hold numbers");
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (std::is_floating_point_v<T>) return sizeof(T) == 4 ? "float32" : "float64";
  constexpr const char* names[2][4] = {{"uint8", "uint16", "uint32", "uint64"}, {"int8", "int16", "int32", "int64"}};
  return names[std::is_signed_v<T>][sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3];
}
/// Bytes that fill a shape; none if it is negative or beyond what a machine can hold.
inline std::optional<std::size_t> bytes_of(const std::vector<std::int64_t>& shape, std::size_t item) {
  double need = static_cast<double>(item);
  for (const auto dim : shape) {
    if (dim < 0) return std::nullopt;
    need *= static_cast<double>(dim);
  }
  if (need > 9007199254740991.0) return std::nullopt;
  return static_cast<std::size_t>(need);
}
inline std::string listed(const std::vector<std::int64_t>& shape) {
  std::string out;
  for (const auto dim : shape) out += (out.empty() ? "" : ", ") + std::to_string(dim);
  return "[" + out + "]";
}
inline double half(std::uint16_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0, fraction = bits & 0x3ff;
  const int exponent = bits >> 10 & 0x1f;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  if (exponent == 31) return fraction != 0.0 ? std::nan("") : sign * INFINITY;
  return sign * std::ldexp(fraction + 1024, exponent - 25);
}

}  // namespace detail

/// Row-major values of a dtype (the manifest's word) that fill a shape; a scalar's shape is empty.
/// float16 holds 16 bits a value, bool a byte, 0 or 1.
class Tensor {
 public:
  Tensor(std::string dtype, std::vector<std::int64_t> shape, std::vector<std::uint8_t> bytes)
      : dtype_(std::move(dtype)), shape_(std::move(shape)), bytes_(std::move(bytes)) {
    if (detail::bytes_of(shape_, detail::dtype(dtype_).size) != bytes_.size()) {
      throw Error("shape-mismatch", std::to_string(bytes_.size()) + " bytes do not fill " + dtype_ + " " + detail::listed(shape_));
    }
  }
  /// A copy of `values`: `Tensor::of<float>(pixels, {1, 224, 224, 3})`.
  template <class T> static Tensor of(const std::vector<T>& values, std::vector<std::int64_t> shape) {
    std::vector<std::uint8_t> bytes(values.size() * sizeof(T));
    if constexpr (std::is_same_v<T, bool>) {
      std::copy(values.begin(), values.end(), bytes.begin());
    } else if (!values.empty()) {
      std::memcpy(bytes.data(), values.data(), bytes.size());
    }
    return Tensor(detail::name_of<T>(), std::move(shape), std::move(bytes));
  }
  /// `Tensor::zeros("uint8", {1, 224, 224, 3})`, to be filled through `as`.
  static Tensor zeros(const std::string& dtype, std::vector<std::int64_t> shape) {
    const auto size = detail::bytes_of(shape, detail::dtype(dtype).size);
    if (!size) throw Error("shape-mismatch", detail::listed(shape) + " is no shape");
    return Tensor(dtype, std::move(shape), std::vector<std::uint8_t>(*size));
  }

  const std::string& dtype() const { return dtype_; }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size() / detail::dtype(dtype_).size; }
  /// The values as they lie there; throws dtype-mismatch for another type than the tensor's.
  template <class T> const T* as() const {
    if (dtype_ != detail::name_of<T>()) throw Error("dtype-mismatch", "the tensor is " + dtype_ + ", not " + detail::name_of<T>());
    return reinterpret_cast<const T*>(bytes_.data());
  }
  template <class T> T* as() { return const_cast<T*>(static_cast<const Tensor*>(this)->as<T>()); }

 private:
  std::string dtype_;
  std::vector<std::int64_t> shape_;
  std::vector<std::uint8_t> bytes_;
};

namespace detail {

template <class T> T item(const Tensor& x, std::size_t k) {
  T value;
  std::memcpy(&value, x.bytes().data() + k * sizeof(T), sizeof(T));
  return value;
}
inline double number(const Tensor& x, std::size_t k) {
  const std::string& d = x.dtype();
  return d == "float32"   ? static_cast<double>(item<float>(x, k))
         : d == "float64" ? item<double>(x, k)
         : d == "float16" ? half(item<std::uint16_t>(x, k))
         : d == "int8"    ? item<std::int8_t>(x, k)
         : d == "int16"   ? item<std::int16_t>(x, k)
         : d == "uint16"  ? item<std::uint16_t>(x, k)
         : d == "int32"   ? item<std::int32_t>(x, k)
         : d == "uint32"  ? item<std::uint32_t>(x, k)
         : d == "int64"   ? static_cast<double>(item<std::int64_t>(x, k))
         : d == "uint64"  ? static_cast<double>(item<std::uint64_t>(x, k))
                          : item<std::uint8_t>(x, k);
}
/// |a − b|; 64-bit integers are subtracted before they are rounded. Equal infinities, and NaN against NaN, are 0 apart.
inline double distance(const Tensor& a, const Tensor& b, std::size_t k) {
  if (a.dtype() == "int64" || a.dtype() == "uint64") {
    const auto x = item<std::uint64_t>(a, k), y = item<std::uint64_t>(b, k);
    const bool less = a.dtype() == "int64" ? static_cast<std::int64_t>(x) < static_cast<std::int64_t>(y) : x < y;
    return static_cast<double>(less ? y - x : x - y);
  }
  const double x = number(a, k), y = number(b, k);
  return x == y || (std::isnan(x) && std::isnan(y)) ? 0.0 : std::fabs(x - y);
}

// --- manifest: edgepack's runtime/README.md has the contract -----------------------------------------

struct File {
  std::int64_t size;
  std::string sha256, role;
};
struct Golden {
  std::string name, dtype, path, from;
  std::vector<std::int64_t> shape;
  double atol = 0, rtol = 0;
};
struct Case {
  std::string name;
  std::vector<Golden> inputs, expect;
};

}  // namespace detail

/// An input or output; a dimension is a size, or -1 and a name.
struct TensorSpec {
  struct Dim {
    std::int64_t size;
    std::string name;
  };
  std::string name, dtype;
  std::vector<Dim> shape;

  std::string text() const {
    std::string out;
    for (const auto& dim : shape) out += (out.empty() ? "" : ", ") + (dim.size < 0 ? dim.name : std::to_string(dim.size));
    return "'" + name + "' " + dtype + " [" + out + "]";
  }
};

/// A provider with its options, in the manifest's order.
struct Provider {
  std::string name;
  std::vector<std::pair<std::string, std::string>> options;
};

namespace detail {

/// What a loader reads of manifest.json, all of it checked.
struct Manifest {
  std::string model, precision, min_version, level;
  std::vector<TensorSpec> inputs, outputs;
  std::vector<Provider> providers;
  std::vector<std::pair<std::string, std::string>> config;
  std::vector<Case> golden;
  std::map<std::string, File> files;
  int threads = 0;

  static Manifest parse(const std::string& text) {
    const Json json = Json::parse(text);
    require_known(json);
    Manifest made;
    made.model = json["model"]["path"].path();
    made.precision = json["model"]["precision"].text();
    made.inputs = specs(json["inputs"]);
    made.outputs = specs(json["outputs"]);
    const Json& runtime = json["runtime"];
    made.min_version = runtime["min_version"].text();
    if (!is_version(made.min_version)) runtime["min_version"].fail("a version such as 1.20.0");
    runtime["language"].text();
    for (const auto& one : runtime["providers"].list()) made.providers.push_back({one["name"].text(), one["options"].texts()});
    const Json& session = runtime["session"];
    made.level = session["graph_optimization_level"].one_of({"disabled", "basic", "extended", "all"});
    made.threads = static_cast<int>(std::min<std::int64_t>(session["intra_op_num_threads"].count(), 1 << 16));
    made.config = session["config"].texts();
    for (const auto& one : json["files"].list()) made.add_file(one);
    for (const auto& one : json["golden"].list()) made.add_case(one);
    const auto file = made.files.find(made.model);
    if (file == made.files.end() || file->second.role != "model") invalid("files has no " + made.model + " of role model");
    return made;
  }

  [[noreturn]] static void invalid(const std::string& why) { throw Error("manifest-invalid", "manifest.json: " + why); }

 private:
  static void require_known(const Json& json) {
    const auto schema = json["schema"].count();
    std::string unknown;
    for (const auto& field : json["critical"].list()) unknown += " " + field.text();
    if (schema > 1) throw Error("schema-unsupported", "manifest.json: schema is " + std::to_string(schema) + "; this loader knows 1");
    if (!unknown.empty()) throw Error("schema-unsupported", "manifest.json: critical names" + unknown + ", which this loader does not know");
  }
  static bool is_version(const std::string& text) {
    bool digit = false, dot = false;
    for (const char c : text) {
      if (c == '.' && !digit) return false;
      dot = dot || c == '.';
      digit = c >= '0' && c <= '9';
      if (!digit && c != '.') return false;
    }
    return digit && dot;
  }
  static std::vector<TensorSpec> specs(const Json& json) {
    std::vector<TensorSpec> made;
    for (const auto& one : json.list()) {
      TensorSpec spec{one["name"].text(), dtype_of(one), {}};
      for (const auto& dim : one["shape"].list()) {
        if (dim.is(Json::Type::text)) {
          spec.shape.push_back({-1, dim.text()});
        } else {
          spec.shape.push_back({dim.count(), ""});
        }
      }
      for (const auto& other : made) {
        if (other.name == spec.name) invalid(json.place() + " has the name '" + spec.name + "' twice");
      }
      made.push_back(std::move(spec));
    }
    return made;
  }
  static const std::string& dtype_of(const Json& json) {
    std::vector<std::string> names;
    for (const auto& one : dtypes()) names.emplace_back(one.name);
    return json["dtype"].one_of(names);
  }
  void add_file(const Json& json) {
    const std::string& path = json["path"].path();
    const File file{json["size"].count(), json["sha256"].text(), json["role"].text()};
    if (!files.emplace(path, file).second) invalid("files has " + path + " twice");
  }
  void add_case(const Json& json) {
    Case made{json["name"].text(), {}, {}};
    for (const auto& one : json["inputs"].list()) made.inputs.push_back(golden_of(one, inputs, "inputs"));
    for (const auto& one : json["expect"].list()) {
      made.expect.push_back(golden_of(one, outputs, "outputs"));
      made.expect.back().from = one["from"].text();
      made.expect.back().atol = one["atol"].bound();
      made.expect.back().rtol = one["rtol"].bound();
    }
    golden.push_back(std::move(made));
  }
  Golden golden_of(const Json& json, const std::vector<TensorSpec>& known, const std::string& field) const {
    Golden made{json["name"].text(), dtype_of(json), json["path"].path(), "", {}, 0, 0};
    for (const auto& dim : json["shape"].list()) made.shape.push_back(dim.count());
    const auto named = [&made](const TensorSpec& spec) { return spec.name == made.name; };
    if (std::none_of(known.begin(), known.end(), named)) invalid(made.path + ": " + field + " has no '" + made.name + "'");
    const auto file = files.find(made.path);
    if (file == files.end() || file->second.role != "golden") invalid("files has no " + made.path + " of role golden");
    if (bytes_of(made.shape, dtype(made.dtype).size) != static_cast<std::size_t>(file->second.size)) {
      invalid(made.path + " has " + std::to_string(file->second.size) + " bytes, which do not fill " + made.dtype + " " + listed(made.shape));
    }
    return made;
  }
};

// --- files -------------------------------------------------------------------------------------------

inline std::optional<std::string> read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return file.bad() ? std::nullopt : std::optional(std::move(text));
}
inline std::string sha256_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(1 << 20);
  Sha256 digest;
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0) {
    digest.add(block.data(), static_cast<std::size_t>(file.gcount()));
  }
  return digest.hex();
}

/// The files of a bundle, each compared with the manifest when it is read.
class Folder {
 public:
  Folder(fs::path root, const std::map<std::string, File>& files) : root_(std::move(root)), files_(files) {}

  const fs::path& root() const { return root_; }

  std::vector<std::uint8_t> read(const std::string& path) const {
    std::ifstream file(place(path), std::ios::binary);
    if (!file) throw Error("file-missing", path + " cannot be read");
    std::vector<std::uint8_t> data(static_cast<std::size_t>(files_.at(path).size));
    file.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(data.size()));
    data.resize(static_cast<std::size_t>(file.gcount()));
    compare(path, Sha256().add(data.data(), data.size()).hex());
    return data;
  }
  /// As `read`, for files that need not be held.
  void verify(const std::string& path) const { compare(path, sha256_of(place(path))); }

 private:
  fs::path place(const std::string& path) const {
    std::error_code none;
    const fs::path found = fs::weakly_canonical(root_ / path, none);
    const auto kind = none ? fs::file_status(fs::file_type::not_found) : fs::status(found, none);
    if (!fs::exists(kind)) throw Error("file-missing", path + " is not in " + root_.string());
    const auto [end, rest] = std::mismatch(root_.begin(), root_.end(), found.begin(), found.end());
    if (end != root_.end() || rest == found.end()) throw Error("file-corrupt", path + " is a link out of the bundle");
    if (!fs::is_regular_file(kind)) throw Error("file-corrupt", path + " is not a regular file");
    const auto size = fs::file_size(found, none), listed = static_cast<std::uintmax_t>(files_.at(path).size);
    if (size != listed) {
      throw Error("file-corrupt", path + " has " + std::to_string(size) + " bytes, the manifest says " + std::to_string(listed));
    }
    return found;
  }
  void compare(const std::string& path, const std::string& digest) const {
    const std::string& listed = files_.at(path).sha256;
    if (digest != listed) throw Error("file-corrupt", path + " has SHA-256 " + digest + ", the manifest says " + listed);
  }

  fs::path root_;
  const std::map<std::string, File>& files_;
};

}  // namespace detail

// --- board -------------------------------------------------------------------------------------------

/// What a TensorRT engine is bound to, besides model and onnxruntime. Empty: unknown, or not a Jetson.
struct Board {
  std::string board, l4t, tensorrt, sm;

  /// The board whose file system is at `root`. Libraries are asked only at `/`, that is on the board itself.
  /// Sources: Jetson Linux developer guide (/etc/nv_tegra_release, the device tree); dpkg's own list for TensorRT, because
  /// JetPack's version does not tell it; CUDA GPU list for the SMs of Xavier, Orin and Thor.
  static Board read(const fs::path& root = "/") {
    const auto text = [&root](const char* path) { return detail::read_text(root / path).value_or(""); };
    Board made;
    for (const char c : text("proc/device-tree/model")) made.board += c == '\0' ? "" : std::string(1, c);
    const std::string chips = text("proc/device-tree/compatible");
    for (const auto& [chip, sm] : {std::pair{"tegra194", "72"}, std::pair{"tegra234", "87"}, std::pair{"tegra264", "110"}}) {
      if (chips.find(chip) != std::string::npos) made.sm = sm;
    }
    made.l4t = release_of(text("etc/nv_tegra_release"));
    made.tensorrt = installed_tensorrt(text("var/lib/dpkg/status"));
    if (root == "/") {
      if (made.tensorrt.empty()) made.tensorrt = loaded_tensorrt();
      if (made.sm.empty()) made.sm = cuda_sm();
    }
    return made;
  }

 private:
  /// `# R36 (release), REVISION: 4.3, …` → 36.4.3
  static std::string release_of(const std::string& text) {
    static const std::string digits = "0123456789.";
    const auto revision = text.find("REVISION: ");
    if (text.compare(0, 3, "# R") != 0 || revision == std::string::npos) return "";
    const auto word = [&text](std::size_t from) { return text.substr(from, text.find_first_not_of(digits, from) - from); };
    return word(3) + "." + word(revision + 10);
  }
  static std::string installed_tensorrt(const std::string& status) {
    std::vector<std::string> versions;
    std::istringstream lines(status + "\n\n");
    std::string line, package, version;
    bool installed = false;
    while (std::getline(lines, line)) {
      const auto value = [&line](const char* key) { return line.rfind(key, 0) == 0 ? line.substr(std::strlen(key)) : ""; };
      if (line.empty()) {
        const bool ours = package.rfind("libnvinfer", 0) == 0 && package.size() > 10 &&
                          package.find_first_not_of("0123456789", 10) == std::string::npos;
        if (ours && installed) versions.push_back(version);
        package.clear(), version.clear(), installed = false;
      }
      if (const auto found = value("Package: "); !found.empty()) package = found;
      if (const auto found = value("Version: "); !found.empty()) version = found;
      if (value("Status: ") == "install ok installed") installed = true;
    }
    std::sort(versions.begin(), versions.end());
    std::string all;
    for (const auto& one : versions) all += (all.empty() ? "" : " ") + one;
    return all;
  }
  /// Source: NvInferRuntimeBase.h, `int32_t getInferLibVersion()`; 8502 is 8.5.2, 100300 is 10.3.0.
  static std::string loaded_tensorrt() {
    for (const char* name : {"libnvinfer.so.10", "libnvinfer.so.8", "libnvinfer.so"}) {
      void* library = dlopen(name, RTLD_NOW);
      void* symbol = library == nullptr ? nullptr : dlsym(library, "getInferLibVersion");
      if (symbol != nullptr) return std::to_string(reinterpret_cast<std::int32_t (*)()>(symbol)());
    }
    return "";
  }
  /// Source: cuda.h, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75 and _MINOR = 76; device 0.
  static std::string cuda_sm() {
    void* cuda = dlopen("libcuda.so.1", RTLD_NOW);
    if (cuda == nullptr) return "";
    const auto start = reinterpret_cast<int (*)(unsigned)>(dlsym(cuda, "cuInit"));
    const auto ask = reinterpret_cast<int (*)(int*, int, int)>(dlsym(cuda, "cuDeviceGetAttribute"));
    int major = 0, minor = 0;
    if (start == nullptr || ask == nullptr || start(0) != 0 || ask(&major, 75, 0) != 0 || ask(&minor, 76, 0) != 0) return "";
    return std::to_string(major) + std::to_string(minor);
  }
};

// --- engine cache ------------------------------------------------------------------------------------

/// The folder of TensorRT engines of one model on one board, which a provider option names as `${cache}`.
///
/// An engine is executable code for one TensorRT version and one GPU (TensorRT developer guide, "Serialized engines are not
/// portable"), so none is loaded that this loader has not built here: the folder's name is a hash of all that an engine
/// depends on, nobody else can write to it, and an engine without a right `.sha256` beside it, written once its session had
/// opened, is deleted before TensorRT can see it. Is TensorRT's version or the SM unknown, all are.
class EngineCache {
 public:
  std::vector<std::string> kept, removed;

  EngineCache(const fs::path& cache_dir, const std::string& model_sha256, const Board& board, const std::string& onnxruntime,
              const std::vector<Provider>& chain)
      : trusted_(!board.tensorrt.empty() && !board.sm.empty()) {
    std::string key = "c++";
    const auto add = [&key](const std::string& part) { (key += '\0') += part; };
    for (const auto& part : {model_sha256, board.board, board.l4t, board.tensorrt, board.sm, onnxruntime}) add(part);
    for (const auto& provider : chain) {
      add(provider.name);
      for (const auto& [name, value] : provider.options) add(name), add(value);
      add("");
    }
    const fs::path base = fs::weakly_canonical(cache_dir.empty() ? fallback() : cache_dir);
    folder_ = base / Sha256().add(key).hex().substr(0, 32);
    make_private(base);
    make_private(folder_);
  }
  const fs::path& folder() const { return folder_; }

  /// `chain` with this folder for every `${cache}`.
  std::vector<Provider> fill(std::vector<Provider> chain) const {
    static const std::string mark = "${cache}";
    for (auto& provider : chain) {
      for (auto& [name, value] : provider.options) {
        for (std::size_t at = 0; (at = value.find(mark, at)) != std::string::npos; at += folder_.string().size()) {
          value.replace(at, mark.size(), folder_.string());
        }
      }
    }
    return chain;
  }
  /// Hold the folder while `open` opens a session: first delete what is not ours, last seal what is new.
  template <class Open> void building(Open open) {
    const Lock lock(folder_);
    for (const auto& path : engines()) {
      const bool ours = trusted_ && !fs::is_symlink(path) && detail::read_text(seal_of(path)) == detail::sha256_of(path);
      (ours ? kept : removed).push_back(path.filename().string());
      if (!ours) fs::remove(path);
    }
    open();
    write_seals();
  }
  void seal() const {
    const Lock lock(folder_);
    write_seals();
  }

 private:
  struct Lock {
    explicit Lock(const fs::path& folder) : file(::open((folder / "edgepack.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
      if (file < 0 || flock(file, LOCK_EX) != 0) throw std::runtime_error("cannot lock " + folder.string());
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock() { ::close(file); }
    int file;
  };

  static fs::path fallback() {
    const char* cache = std::getenv("XDG_CACHE_HOME");
    const char* home = std::getenv("HOME");
    if (cache != nullptr && *cache != '\0') return fs::path(cache) / "edgepack";
    if (home != nullptr && *home != '\0') return fs::path(home) / ".cache" / "edgepack";
    throw std::runtime_error("neither HOME nor XDG_CACHE_HOME says where engines may be kept");
  }
  static void make_private(const fs::path& folder) {
    fs::create_directories(folder.parent_path());
    if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) throw std::runtime_error("cannot make " + folder.string());
    struct stat info {};
    if (stat(folder.c_str(), &info) != 0 || info.st_uid != geteuid()) {
      throw std::runtime_error(folder.string() + " belongs to uid " + std::to_string(info.st_uid) + ", not to " + std::to_string(geteuid()));
    }
    if ((info.st_mode & 022) != 0) throw std::runtime_error(folder.string() + " can be written by others: chmod 700 " + folder.string());
  }
  static fs::path seal_of(const fs::path& engine) { return engine.string() + ".sha256"; }

  std::vector<fs::path> engines() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      const auto kind = entry.path().extension();
      if ((entry.is_symlink() || !entry.is_directory()) && kind != ".sha256" && kind != ".lock") found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }
  void write_seals() const {
    for (const auto& path : engines()) {
      const std::string digest = detail::sha256_of(path);
      if (detail::read_text(seal_of(path)) != digest) std::ofstream(seal_of(path), std::ios::binary) << digest;
    }
  }

  fs::path folder_;
  bool trusted_;
};

// --- ONNX Runtime ------------------------------------------------------------------------------------

namespace detail {

/// ONNX Runtime's C API and environment, without telemetry, out of a library found at run time.
///
/// Only functions of API version 17 are called (24 for the nodes' providers): OrtApi grows at its end, so any runtime from
/// 1.17 on serves, whatever header this was compiled with.
class Runtime {
 public:
  explicit Runtime(const std::string& library) {
    // Read when the library is loaded; see onnxruntime's docs/Privacy.md.
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    const auto* base = reinterpret_cast<const OrtApiBase* (*)()>(symbol(library))();
    version = base->GetVersionString();
    api = base->GetApi(17);
    if (api == nullptr) throw Error("runtime-too-old", "onnxruntime is " + version + ", this loader needs 1.17 or newer");
#if ORT_API_VERSION >= 24
    newer_ = base->GetApi(24);
#endif
    OrtEnv* made = nullptr;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "edgepack", &made));
    env = {made, api->ReleaseEnv};
    check(api->DisableTelemetryEvents(made));
    OrtMemoryInfo* cpu = nullptr;
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));
    memory = {cpu, api->ReleaseMemoryInfo};
  }

  void check(OrtStatus* status) const {
    if (status == nullptr) return;
    const std::string why = api->GetErrorMessage(status);
    api->ReleaseStatus(status);
    throw std::runtime_error(why);
  }
  /// Providers that were compiled in; whether they can be had is another matter.
  std::vector<std::string> built_in() const {
    char** names = nullptr;
    int count = 0;
    check(api->GetAvailableProviders(&names, &count));
    std::vector<std::string> all(names, names + count);
    check(api->ReleaseAvailableProviders(names, count));
    return all;
  }
  /// Provider → number of the model's nodes; empty where this onnxruntime, or an .ort file, does not tell.
  std::map<std::string, std::size_t> nodes([[maybe_unused]] const OrtSession* session) const {
    std::map<std::string, std::size_t> found;
#if ORT_API_VERSION >= 24
    const OrtEpAssignedSubgraph* const* parts = nullptr;
    std::size_t count = 0;
    if (newer_ == nullptr) return found;
    try {
      check(newer_->Session_GetEpGraphAssignmentInfo(session, &parts, &count));
    } catch (const std::runtime_error&) {
      return found;
    }
    for (std::size_t k = 0; k < count; ++k) {
      const char* name = nullptr;
      const OrtEpAssignedNode* const* nodes = nullptr;
      std::size_t taken = 0;
      check(newer_->EpAssignedSubgraph_GetEpName(parts[k], &name));
      check(newer_->EpAssignedSubgraph_GetNodes(parts[k], &nodes, &taken));
      found[name] += taken;
    }
#endif
    return found;
  }

  const OrtApi* api = nullptr;
  std::string version;
  std::shared_ptr<OrtEnv> env;
  std::shared_ptr<OrtMemoryInfo> memory;

 private:
  static void* symbol(const std::string& library) {
    const char* named = std::getenv("EDGEPACK_ONNXRUNTIME");
    std::vector<std::string> names{"libonnxruntime.so.1", "libonnxruntime.so"};
    if (!library.empty()) names = {library};
    if (library.empty() && named != nullptr && *named != '\0') names = {named};
    std::string why;
    for (const auto& name : names) {
      void* opened = dlopen(name.c_str(), RTLD_NOW);
      void* found = opened == nullptr ? nullptr : dlsym(opened, "OrtGetApiBase");
      if (found != nullptr) return found;
      const char* reason = dlerror();
      why += (why.empty() ? "" : "; ") + std::string(reason == nullptr ? name : reason);
    }
    throw Error("provider-unavailable", "no onnxruntime (EDGEPACK_ONNXRUNTIME or the linker's path names it): " + why);
  }
#if ORT_API_VERSION >= 24
  const OrtApi* newer_ = nullptr;
#endif
};

inline bool is_older(const std::string& version, const std::string& least) {
  std::istringstream a(version), b(least);
  for (int k = 0; k < 3; ++k) {
    long x = 0, y = 0;
    if (k > 0) a.ignore(1), b.ignore(1);
    if (!(a >> x)) x = 0;
    if (!(b >> y)) y = 0;
    if (x != y) return x < y;
  }
  return false;
}
inline std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

/// The model to open, its bytes or its path, and the digest of all its files.
struct Model {
  std::vector<std::uint8_t> bytes;
  std::string path, sha256;
};

}  // namespace detail

// --- bundle and session ------------------------------------------------------------------------------

/// What a caller may wish for. `providers`: some of the manifest's, in the order to try them. `threads`: ONNX Runtime's intra-op
/// threads, 0 for its default. `cache_dir`: for TensorRT engines; empty: $XDG_CACHE_HOME/edgepack or ~/.cache/edgepack.
/// `library`: the file of ONNX Runtime; empty: $EDGEPACK_ONNXRUNTIME, or what the linker finds. `board`: whose engines these are.
struct Options {
  std::optional<std::vector<std::string>> providers;
  std::optional<int> threads;
  fs::path cache_dir;
  std::string library;
  std::optional<Board> board;
};

/// One output of a golden case against one expectation; `max_abs` is empty if it is not finite, or dtype or shape differ (`why`).
struct Comparison {
  std::string golden, output, from;
  std::optional<double> max_abs;
  double atol, rtol;
  bool passed;
  std::string why;
};

/// `passed`: there were comparisons, and all passed.
struct SelfTest {
  bool passed;
  std::vector<Comparison> cases;
};

/// What really opened. `provider` leads, `fallback` stands behind it node by node, `passed_over` gives provider → reason.
/// `nodes`: the model's nodes per provider, empty where this onnxruntime or an .ort file does not tell. `proven`: it is certain
/// that every node runs on `provider`.
struct Report {
  std::string provider;
  bool proven;
  std::map<std::string, std::size_t> nodes;
  std::vector<std::string> fallback;
  std::vector<std::pair<std::string, std::string>> passed_over;
  std::string runtime_version, model_sha256, precision, engine_folder;
  std::vector<std::string> engines_kept, engines_removed;
};

using Tensors = std::map<std::string, Tensor>;

/// An open model. `run` may be called from several threads.
class Session {
 public:
  /// The answers to `inputs` by output name. Throws input-missing, input-unknown, dtype-mismatch, shape-mismatch.
  Tensors run(const Tensors& inputs) const {
    require_fit(inputs);
    const OrtApi* api = runtime_->api;
    std::vector<Value> given, answers;
    std::vector<const char*> names, outputs;
    std::vector<const OrtValue*> lent;
    for (const auto& spec : manifest_->inputs) {
      const Tensor& x = inputs.at(spec.name);
      OrtValue* value = nullptr;
      // ONNX Runtime reads inputs and does not write them. An empty tensor has no bytes, and still needs a place.
      static std::uint8_t nothing = 0;
      void* bytes = x.bytes().empty() ? &nothing : const_cast<std::uint8_t*>(x.bytes().data());
      runtime_->check(api->CreateTensorWithDataAsOrtValue(runtime_->memory.get(), bytes, x.bytes().size(), x.shape().data(),
                                                          x.shape().size(), detail::dtype(x.dtype()).code, &value));
      given.emplace_back(value, api->ReleaseValue);
      names.push_back(spec.name.c_str());
      lent.push_back(value);
    }
    for (const auto& spec : manifest_->outputs) outputs.push_back(spec.name.c_str());
    std::vector<OrtValue*> got(outputs.size(), nullptr);
    OrtStatus* status = api->Run(session_.get(), nullptr, names.data(), lent.data(), lent.size(), outputs.data(), outputs.size(), got.data());
    for (OrtValue* value : got) answers.emplace_back(value, api->ReleaseValue);
    runtime_->check(status);
    Tensors found;
    for (std::size_t k = 0; k < got.size(); ++k) found.emplace(outputs[k], taken(manifest_->outputs[k], got[k]));
    return found;
  }

  /// Every golden case run and compared: an element passes when |a − b| ≤ atol + rtol·|b|, b expected.
  SelfTest self_test() const {
    SelfTest all{!manifest_->golden.empty(), {}};
    for (const auto& one : manifest_->golden) {
      const Tensors answers = run(golden_inputs(one));
      for (const auto& want : one.expect) {
        all.cases.push_back(compared(one.name, answers.at(want.name), want));
        all.passed = all.passed && all.cases.back().passed;
      }
    }
    all.passed = all.passed && !all.cases.empty();
    return all;
  }

  /// Run the first golden case `times` times, so that the first real call is as fast as later ones; gives whether there is one.
  bool warm_up(int times = 3) const {
    if (manifest_->golden.empty()) return false;
    const Tensors inputs = golden_inputs(manifest_->golden.front());
    for (int k = 0; k < times; ++k) run(inputs);
    return true;
  }

  const Report& report() const { return report_; }
  const std::vector<TensorSpec>& inputs() const { return manifest_->inputs; }
  const std::vector<TensorSpec>& outputs() const { return manifest_->outputs; }

  /// Close the model. Engines that TensorRT built while running (free dimensions) are sealed for the next session.
  void close() {
    if (session_ && cache_) cache_->seal();
    session_.reset();
  }
  Session(Session&&) = default;
  Session& operator=(Session&&) = delete;
  ~Session() {
    try {
      close();
    } catch (const std::exception&) {  // an engine without a seal is built anew
    }
  }

 private:
  friend class Bundle;
  using Value = std::unique_ptr<OrtValue, void (*)(OrtValue*)>;

  Session(std::shared_ptr<detail::Runtime> runtime, std::shared_ptr<const detail::Manifest> manifest,
          std::shared_ptr<const detail::Model> model, fs::path root)
      : runtime_(std::move(runtime)), manifest_(std::move(manifest)), model_(std::move(model)), root_(std::move(root)) {}

  Tensors golden_inputs(const detail::Case& one) const {
    Tensors inputs;
    for (const auto& x : one.inputs) inputs.emplace(x.name, tensor(x));
    return inputs;
  }
  Tensor tensor(const detail::Golden& golden) const {
    return Tensor(golden.dtype, golden.shape, detail::Folder(root_, manifest_->files).read(golden.path));
  }
  Comparison compared(const std::string& name, const Tensor& got, const detail::Golden& golden) const {
    const Tensor want = tensor(golden);
    Comparison made{name, golden.name, golden.from, std::nullopt, golden.atol, golden.rtol, false, ""};
    if (got.dtype() != want.dtype() || got.shape() != want.shape()) {
      made.why = got.dtype() + " " + detail::listed(got.shape()) + ", expected " + want.dtype() + " " + detail::listed(want.shape());
      return made;
    }
    double worst = 0;
    made.passed = true;
    for (std::size_t k = 0; k < want.size(); ++k) {
      const double far = detail::distance(got, want, k);
      const double bound = golden.atol + golden.rtol * std::fabs(detail::number(want, k));
      made.passed = made.passed && (far == 0 || (far <= bound && std::isfinite(far)));
      worst = worst >= far ? worst : far;  // keeps a NaN
    }
    if (std::isfinite(worst)) made.max_abs = worst;
    return made;
  }
  void require_fit(const Tensors& inputs) const {
    if (!session_) throw std::logic_error("the session is closed");
    for (const auto& spec : manifest_->inputs) {
      if (inputs.count(spec.name) == 0) throw Error("input-missing", "input " + spec.text() + " is missing");
    }
    for (const auto& given : inputs) {
      const auto named = [&given](const TensorSpec& spec) { return spec.name == given.first; };
      if (std::none_of(manifest_->inputs.begin(), manifest_->inputs.end(), named)) {
        std::string known;
        for (const auto& spec : manifest_->inputs) known += (known.empty() ? "" : ", ") + spec.text();
        throw Error("input-unknown", "unknown input '" + given.first + "'; the model takes " + known);
      }
    }
    std::map<std::string, std::int64_t> sizes;
    for (const auto& spec : manifest_->inputs) {
      const Tensor& x = inputs.at(spec.name);
      if (x.dtype() != spec.dtype) throw Error("dtype-mismatch", "input " + spec.text() + " came as " + x.dtype());
      bool fits = x.shape().size() == spec.shape.size();
      for (std::size_t k = 0; fits && k < spec.shape.size(); ++k) {
        const auto& dim = spec.shape[k];
        fits = x.shape()[k] == (dim.size < 0 ? sizes.emplace(dim.name, x.shape()[k]).first->second : dim.size);
      }
      if (fits) continue;
      std::string known;
      for (const auto& [name, size] : sizes) known += ", " + name + " is " + std::to_string(size);
      throw Error("shape-mismatch", "input " + spec.text() + " came with shape " + detail::listed(x.shape()) + known);
    }
  }
  /// A copy of an output.
  Tensor taken(const TensorSpec& spec, OrtValue* value) const {
    const OrtApi* api = runtime_->api;
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    runtime_->check(api->GetTensorTypeAndShape(value, &raw));
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> info(raw, api->ReleaseTensorTypeAndShapeInfo);
    ONNXTensorElementDataType code{};
    std::size_t rank = 0;
    runtime_->check(api->GetTensorElementType(raw, &code));
    const auto& dtype = detail::dtype(spec.dtype);
    if (code != dtype.code) throw Error("dtype-mismatch", "output " + spec.text() + ": the model gives ONNX type " + std::to_string(code));
    runtime_->check(api->GetDimensionsCount(raw, &rank));
    std::vector<std::int64_t> shape(rank);
    runtime_->check(api->GetDimensions(raw, shape.data(), rank));
    void* data = nullptr;
    runtime_->check(api->GetTensorMutableData(value, &data));
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    const std::size_t size = detail::bytes_of(shape, dtype.size).value_or(0);
    return Tensor(spec.dtype, std::move(shape), size == 0 ? std::vector<std::uint8_t>() : std::vector<std::uint8_t>(bytes, bytes + size));
  }

  /// Open the model with `chain`'s first provider in the lead; throws whatever says that it cannot be had.
  void open(std::vector<Provider> chain, const Options& wishes) {
    const auto built_in = runtime_->built_in();
    const auto missing = [&built_in](const Provider& one) { return std::find(built_in.begin(), built_in.end(), one.name) == built_in.end(); };
    if (missing(chain.front())) throw std::runtime_error("onnxruntime " + runtime_->version + " is built without it");
    chain.erase(std::remove_if(chain.begin(), chain.end(), missing), chain.end());
    const auto cached = [](const Provider& one) {
      return std::any_of(one.options.begin(), one.options.end(),
                         [](const auto& option) { return option.second.find("${cache}") != std::string::npos; });
    };
    if (std::any_of(chain.begin(), chain.end(), cached)) {
      const Board board = wishes.board ? *wishes.board : Board::read();
      cache_ = std::make_unique<EngineCache>(wishes.cache_dir, model_->sha256, board, runtime_->version, chain);
      chain = cache_->fill(std::move(chain));
      cache_->building([&] { create(chain, wishes); });
    } else {
      create(chain, wishes);
    }
  }
  void create(const std::vector<Provider>& chain, const Options& wishes) {
    const OrtApi* api = runtime_->api;
    OrtSessionOptions* raw = nullptr;
    runtime_->check(api->CreateSessionOptions(&raw));
    const std::unique_ptr<OrtSessionOptions, void (*)(OrtSessionOptions*)> options(raw, api->ReleaseSessionOptions);
    static const std::map<std::string, GraphOptimizationLevel> levels{
        {"disabled", ORT_DISABLE_ALL}, {"basic", ORT_ENABLE_BASIC}, {"extended", ORT_ENABLE_EXTENDED}, {"all", ORT_ENABLE_ALL}};
    runtime_->check(api->SetSessionGraphOptimizationLevel(raw, levels.at(manifest_->level)));
    runtime_->check(api->SetIntraOpNumThreads(raw, wishes.threads.value_or(manifest_->threads)));
    // An onnxruntime that cannot record it takes the entry and does nothing.
    runtime_->check(api->AddSessionConfigEntry(raw, "session.record_ep_graph_assignment_info", "1"));
    for (const auto& [key, value] : manifest_->config) runtime_->check(api->AddSessionConfigEntry(raw, key.c_str(), value.c_str()));
    report_.fallback.clear();
    for (const auto& provider : chain) {
      try {
        append(raw, provider);
      } catch (const std::runtime_error&) {
        if (provider.name == chain.front().name) throw;
        continue;  // one that was to stand behind cannot be had
      }
      if (provider.name != chain.front().name) report_.fallback.push_back(provider.name);
    }
    OrtSession* made = nullptr;
    if (model_->path.empty()) {
      runtime_->check(api->CreateSessionFromArray(runtime_->env.get(), model_->bytes.data(), model_->bytes.size(), raw, &made));
    } else {
      runtime_->check(api->CreateSession(runtime_->env.get(), model_->path.c_str(), raw, &made));
    }
    session_ = {made, api->ReleaseSession};
    report_.provider = chain.front().name;
    report_.nodes = runtime_->nodes(made);
    if (!report_.nodes.empty() && report_.nodes.count(report_.provider) == 0) {
      session_.reset();
      throw std::runtime_error("it takes none of the model's nodes");
    }
    const bool alone = report_.nodes.empty() ? report_.provider == "CPUExecutionProvider" && report_.fallback.empty() : report_.nodes.size() == 1;
    report_.proven = alone;
  }
  void append(OrtSessionOptions* options, const Provider& provider) const {
    const OrtApi* api = runtime_->api;
    std::vector<const char*> keys, values;
    for (const auto& [key, value] : provider.options) keys.push_back(key.c_str()), values.push_back(value.c_str());
    if (provider.name == "CPUExecutionProvider") return;  // which ONNX Runtime always has
    if (provider.name == "TensorrtExecutionProvider") {
      OrtTensorRTProviderOptionsV2* own = nullptr;
      runtime_->check(api->CreateTensorRTProviderOptions(&own));
      const std::unique_ptr<OrtTensorRTProviderOptionsV2, void (*)(OrtTensorRTProviderOptionsV2*)> held(own, api->ReleaseTensorRTProviderOptions);
      runtime_->check(api->UpdateTensorRTProviderOptions(own, keys.data(), values.data(), keys.size()));
      runtime_->check(api->SessionOptionsAppendExecutionProvider_TensorRT_V2(options, own));
    } else if (provider.name == "CUDAExecutionProvider") {
      OrtCUDAProviderOptionsV2* own = nullptr;
      runtime_->check(api->CreateCUDAProviderOptions(&own));
      const std::unique_ptr<OrtCUDAProviderOptionsV2, void (*)(OrtCUDAProviderOptionsV2*)> held(own, api->ReleaseCUDAProviderOptions);
      runtime_->check(api->UpdateCUDAProviderOptions(own, keys.data(), values.data(), keys.size()));
      runtime_->check(api->SessionOptionsAppendExecutionProvider_CUDA_V2(options, own));
    } else {
      // Source: OrtApi::SessionOptionsAppendExecutionProvider, onnxruntime_c_api.h: names without their ending.
      const std::string plain = provider.name.substr(0, provider.name.rfind("ExecutionProvider"));
      const std::string name = plain == "Xnnpack" ? "XNNPACK" : plain == "Qnn" ? "QNN" : plain;
      runtime_->check(api->SessionOptionsAppendExecutionProvider(options, name.c_str(), keys.data(), values.data(), keys.size()));
    }
  }

  std::shared_ptr<detail::Runtime> runtime_;
  std::shared_ptr<const detail::Manifest> manifest_;
  std::shared_ptr<const detail::Model> model_;
  fs::path root_;
  std::unique_ptr<EngineCache> cache_;
  std::unique_ptr<OrtSession, void (*)(OrtSession*)> session_{nullptr, nullptr};
  Report report_{};
};

/// A bundle on disk, its model's bytes checked.
class Bundle {
 public:
  /// The bundle in a folder. Throws bundle-not-found, manifest-invalid, schema-unsupported, file-missing, file-corrupt.
  static Bundle open(const fs::path& place) {
    std::error_code none;
    const fs::path root = fs::canonical(place, none);
    const auto text = none ? std::nullopt : detail::read_text(root / "manifest.json");
    if (!text) throw Error("bundle-not-found", "there is no manifest.json in " + place.string());
    return Bundle(root, std::make_shared<const detail::Manifest>(detail::Manifest::parse(*text)));
  }

  /// A session on the first of the manifest's providers that can be had. Throws runtime-too-old, provider-unavailable.
  Session session(const Options& wishes = {}) const {
    const auto runtime = std::make_shared<detail::Runtime>(wishes.library);
    if (detail::is_older(runtime->version, manifest_->min_version)) {
      throw Error("runtime-too-old", "onnxruntime is " + runtime->version + ", the bundle needs " + manifest_->min_version + " or newer");
    }
    const std::vector<Provider> chain = chosen(wishes);
    std::vector<std::pair<std::string, std::string>> passed_over;
    for (std::size_t k = 0; k < chain.size(); ++k) {
      try {
        Session opened(runtime, manifest_, model_, files_.root());
        opened.open({chain.begin() + static_cast<std::ptrdiff_t>(k), chain.end()}, wishes);
        Report& report = opened.report_;
        report.passed_over = std::move(passed_over);
        report.runtime_version = runtime->version;
        report.model_sha256 = model_->sha256;
        report.precision = manifest_->precision;
        if (opened.cache_) {
          report.engine_folder = opened.cache_->folder().string();
          report.engines_kept = opened.cache_->kept;
          report.engines_removed = opened.cache_->removed;
        }
        return opened;
      } catch (const std::exception& error) {  // whatever it is, the next provider may do
        passed_over.emplace_back(chain[k].name, detail::one_line(error.what()));
      }
    }
    std::string reasons;
    for (const auto& [name, why] : passed_over) reasons += (reasons.empty() ? "" : "; ") + name + ": " + why;
    throw Error("provider-unavailable", "no provider opens " + manifest_->model + ": " + reasons);
  }

  /// Compare every byte on disk with the manifest; gives the number of files. Only manifest.json and signatures of it
  /// (manifest.sig*) may lie there unlisted. Throws file-missing if files are missing and nothing else, else file-corrupt.
  std::size_t check() const {
    std::string lines, kind;
    const auto note = [&](const std::string& one, const std::string& why) {
      kind = kind.empty() || kind == one ? one : "file-corrupt";
      lines += "\n  " + why;
    };
    for (const auto& file : manifest_->files) {
      try {
        files_.verify(file.first);
      } catch (const Error& error) {
        note(error.kind, error.what());
      }
    }
    for (const auto& entry : fs::recursive_directory_iterator(files_.root())) {
      const std::string name = entry.path().lexically_relative(files_.root()).generic_string();
      const bool regular = !entry.is_symlink() && entry.is_regular_file();
      const bool signature = name.find('/') == std::string::npos &&
                             (name.rfind("manifest.sig", 0) == 0 || name.rfind("manifest.json.sig", 0) == 0);
      const bool known = manifest_->files.count(name) > 0 || name == "manifest.json" || signature;
      if ((!entry.is_symlink() && entry.is_directory()) || (regular && known)) continue;
      note("file-corrupt", name + (regular ? " is not in the manifest" : " is not a regular file"));
    }
    if (!lines.empty()) throw Error(kind, files_.root().string() + " is not what its manifest says:" + lines);
    return manifest_->files.size();
  }

  const std::vector<TensorSpec>& inputs() const { return manifest_->inputs; }
  const std::vector<TensorSpec>& outputs() const { return manifest_->outputs; }

 private:
  Bundle(const fs::path& root, std::shared_ptr<const detail::Manifest> manifest)
      : manifest_(std::move(manifest)), files_(root, manifest_->files), model_(read_model()) {}

  /// With weights in files of their own the model is opened where it lies: they are too many to hold.
  std::shared_ptr<const detail::Model> read_model() const {
    std::string lines;
    std::size_t parts = 0;
    for (const auto& [path, file] : manifest_->files) {
      if (file.role != "model") continue;
      ++parts;
      ((lines += path) += '\0') += file.sha256 + "\n";
    }
    auto made = std::make_shared<detail::Model>();
    if (parts == 1) {
      made->bytes = files_.read(manifest_->model);
      made->sha256 = manifest_->files.at(manifest_->model).sha256;
    } else {
      for (const auto& file : manifest_->files) {
        if (file.second.role == "model") files_.verify(file.first);
      }
      made->path = (files_.root() / manifest_->model).string();
      made->sha256 = Sha256().add(lines).hex();
    }
    return made;
  }
  std::vector<Provider> chosen(const Options& wishes) const {
    if (!wishes.providers) return manifest_->providers;
    std::vector<Provider> chain;
    for (const auto& name : *wishes.providers) {
      const auto named = [&name](const Provider& one) { return one.name == name; };
      const auto found = std::find_if(manifest_->providers.begin(), manifest_->providers.end(), named);
      if (found == manifest_->providers.end()) throw Error("provider-unavailable", "the manifest has no provider " + name);
      chain.push_back(*found);
    }
    return chain;
  }

  std::shared_ptr<const detail::Manifest> manifest_;
  detail::Folder files_;
  std::shared_ptr<const detail::Model> model_;
};

}  // namespace edgepack
