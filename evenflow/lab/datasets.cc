// SPDX-License-Identifier: Apache-2.0
// The digits on board, and MNIST from a file of the user.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "evenflow/data/digits.h"
#include "evenflow/format/gzip.h"
#include "evenflow/format/npy.h"
#include "evenflow/lab/lab.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow::lab {
namespace {
constexpr int64_t kPixels = 784, kColumns = kPixels + 1;

// Whole numbers between commas, a line a digit.
std::vector<double> numbers_of(std::string_view text, const std::string& path) {
  std::vector<double> v;
  int64_t line = 1, column = 0;
  auto end_line = [&] {
    if (column != kColumns)
      fail(Code::DataLoss,
           {path, ": line ", line, " has ", column, " numbers, expected ", kColumns});
    ++line, column = 0;
  };
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of(",\r\n", at), text.size());
    double x = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, x);
    if (error != std::errc() || stop != text.data() + end)
      fail(Code::DataLoss,
           {path, ": line ", line, " holds \"", text.substr(at, std::min<size_t>(end - at, 20)),
            "\", expected numbers and commas"});
    v.push_back(x), ++column;
    at = end;
    if (at < text.size() && text[at] == ',') {
      ++at;
      continue;
    }
    end_line();
    while (at < text.size() && (text[at] == '\r' || text[at] == '\n')) ++at;
  }
  if (column) end_line();
  return v;
}
}  // namespace

Options digits() {
  Options o;
  std::tie(o.train, o.test) = data::digits().split(0.8);
  o.data_name = "hand-written digits of 8 x 8 pixels (UCI)";
  return o;
}

Options mnist(const std::string& path, double test_share) {
  std::string bytes = format::read_file(path);
  if (format::is_gzip(bytes)) bytes = format::gunzip(bytes, path, int64_t(1) << 30);
  std::vector<double> v;
  if (bytes.starts_with("\x93NUMPY")) {
    const Array a = format::parse_npy(bytes, path);
    if (a.sig.shape.rank() != 2 || a.sig.shape[1] != kColumns)
      fail(Code::DataLoss, {path, ": holds ", str(a.sig), ", expected [n, ", kColumns, "]"});
    v = tensor(a.sig, a.data).to_vector<double>();
  } else {
    v = numbers_of(bytes, path);
  }
  const int64_t n = int64_t(v.size()) / kColumns;
  if (n < 10) fail(Code::DataLoss, {path, ": holds ", n, " digits, expected at least 10"});
  // The label is the column that is a digit in every line: the last in some files, the first in
  // others.
  auto digits_at = [&](int64_t column) {
    for (int64_t i = 0; i < n; ++i) {
      const double x = v[size_t(i * kColumns + column)];
      if (!(x >= 0 && x <= 9) || x != std::floor(x)) return false;
    }
    return true;
  };
  // A corner of a picture is 0 everywhere, which is a digit too: so the column with most values.
  auto kinds = [&](int64_t column) {
    bool seen[10] = {};
    for (int64_t i = 0; i < n; ++i) seen[int(v[size_t(i * kColumns + column)])] = true;
    return std::count(seen, seen + 10, true);
  };
  const bool first = digits_at(0), last = digits_at(kPixels);
  if (!first && !last)
    fail(Code::DataLoss, {path, ": neither the first nor the last column holds labels 0 to 9"});
  const bool front = first && (!last || kinds(0) > kinds(kPixels));
  std::vector<float> x;
  std::vector<int64_t> y;
  x.reserve(size_t(n * kPixels)), y.reserve(size_t(n));
  for (int64_t i = 0; i < n; ++i) {
    const double* row = v.data() + i * kColumns;
    y.push_back(int64_t(row[front ? 0 : kPixels]));
    for (int64_t k = 0; k < kPixels; ++k) {
      const double p = row[k + front];
      if (!(p >= 0 && p <= 255))
        fail(Code::DataLoss, {path, ": digit ", i, " has a pixel of ", p, ", expected 0 to 255"});
      x.push_back(float(p / 255));
    }
  }
  Options o;
  std::tie(o.train, o.test) =
      Dataset(tensor(x, {n, 28, 28, 1}), tensor(y, {n})).split(1 - test_share);
  o.data_name = concat({n, " digits of MNIST, 28 x 28 pixels"});
  return o;
}

}  // namespace evenflow::lab
