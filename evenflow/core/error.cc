// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/error.h"

#include <cstdio>

namespace evenflow {

std::string str(const Where& where) {
  if (!where.line()) return "an unknown line";  // a saved graph's
  std::string_view file = where.file_name();
  return concat({file.substr(file.rfind('/') + 1), ":", where.line()});
}

std::string_view str(Code code) {
  switch (code) {
    case Code::InvalidArgument:
      return "invalid argument";
    case Code::OutOfRange:
      return "out of range";
    case Code::NotFound:
      return "not found";
    case Code::FailedPrecondition:
      return "failed precondition";
    case Code::DataLoss:
      return "data loss";
    case Code::ResourceExhausted:
      return "resource exhausted";
    case Code::Unimplemented:
      return "unimplemented";
    case Code::Internal:
      return "internal";
  }
  return "unknown";
}

Part::Part(double v) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", v);
  text = buffer;
}

std::string concat(std::initializer_list<Part> parts) {
  std::string s;
  for (const Part& p : parts) s += p.text;
  return s;
}

void fail(Code code, std::initializer_list<Part> parts) { throw Error(code, concat(parts)); }
void fail(std::initializer_list<Part> parts) { fail(Code::InvalidArgument, parts); }
void mismatch(std::string_view op, std::string_view argument, Part found, Part expected) {
  fail({op, ": ", argument, " is ", found.text, ", expected ", expected.text});
}

int64_t checked_mul(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r))
    fail(Code::OutOfRange, {"size ", a, " x ", b, " overflows"});
  return r;
}
int64_t checked_add(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r))
    fail(Code::OutOfRange, {"size ", a, " + ", b, " overflows"});
  return r;
}

}  // namespace evenflow
