// SPDX-License-Identifier: Apache-2.0
// The one exception class. Every refusal says operation, argument, what was found and what was
// expected.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace evenflow {

using Where = std::source_location;
/// "file.cc:12", the file without its folders.
std::string str(const Where& where);

/// What kind of refusal this is; maps to a Python exception and to an HTTP status.
enum class Code {
  InvalidArgument,     ///< the caller's value is wrong, whatever the state of the system
  OutOfRange,          ///< an index, label or offset outside its range
  NotFound,            ///< a file, name or operation that does not exist
  FailedPrecondition,  ///< right argument, wrong moment
  DataLoss,            ///< a damaged, truncated or hostile file
  ResourceExhausted,   ///< memory, disk or a stated bound
  Unimplemented,       ///< known, and not built here
  Internal,            ///< our own mistake
};
std::string_view str(Code code);

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

/// A piece of a message: text or a number.
struct Part {
  std::string text;
  Part(std::string s) : text(std::move(s)) {}
  Part(std::string_view s) : text(s) {}
  Part(const char* s) : text(s) {}
  Part(bool b) : text(b ? "true" : "false") {}
  Part(int v) : text(std::to_string(v)) {}
  Part(unsigned v) : text(std::to_string(v)) {}
  Part(long v) : text(std::to_string(v)) {}
  Part(unsigned long v) : text(std::to_string(v)) {}
  Part(long long v) : text(std::to_string(v)) {}
  Part(unsigned long long v) : text(std::to_string(v)) {}
  Part(double v);
  Part(float v) : Part(double(v)) {}
};
std::string concat(std::initializer_list<Part> parts);

[[noreturn]] void fail(Code code, std::initializer_list<Part> parts);
/// InvalidArgument, the most common.
[[noreturn]] void fail(std::initializer_list<Part> parts);
/// "<op>: <argument> is <found>, expected <expected>"
[[noreturn]] void mismatch(std::string_view op, std::string_view argument, Part found,
                           Part expected);

/// Sums and products of sizes; an overflow is an Error, never a wrap.
int64_t checked_mul(int64_t a, int64_t b);
int64_t checked_add(int64_t a, int64_t b);

}  // namespace evenflow
