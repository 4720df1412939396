// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/tfrecord.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "evenflow/core/checksum.h"

namespace evenflow::format {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr int64_t kHeader = 12, kFooter = 4;
constexpr int64_t kStretch = 4096;  // of a file between two marks of its index

uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes.data(), bytes.size());
  return std::rotr(crc, 15) + 0xa282ead8u;
}
template <class T>
T load(const char* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

[[noreturn]] void damaged(std::string_view file, int64_t record, int64_t offset,
                          std::initializer_list<Part> what) {
  fail(Code::DataLoss, {"tfrecord ", place(file, record, offset), ": ", concat(what)});
}

/// The length that a header states.
int64_t length_of(std::string_view header, int64_t max, std::string_view file, int64_t record,
                  int64_t offset) {
  if (load<uint32_t>(header.data() + 8) != masked_crc(header.substr(0, 8)))
    damaged(file, record, offset,
            {"the checksum of the length is wrong; this is no TFRecord file, or it is damaged"});
  const uint64_t length = load<uint64_t>(header.data());
  if (length > uint64_t(max))
    fail(Code::ResourceExhausted, {"tfrecord ", place(file, record, offset), ": the record has ",
                                   length, " bytes, expected at most ", max});
  return int64_t(length);
}

void check_data(std::string_view data, const char* footer, std::string_view file, int64_t record,
                int64_t offset) {
  if (load<uint32_t>(footer) != masked_crc(data))
    damaged(file, record, offset, {"the checksum of the data is wrong"});
}

}  // namespace

bool TfRecordReader::next(std::string_view* record) {
  stream_.skip(std::exchange(taken_, 0));
  const std::string_view header = stream_.peek(kHeader);
  if (header.empty()) return false;
  const int64_t offset = stream_.offset();
  const auto truncated = [&](int64_t found, int64_t expected) {
    damaged(name(), record_, offset,
            {"the file ends within the record, after ", found, " of its ", expected, " bytes"});
  };
  if (int64_t(header.size()) < kHeader) truncated(int64_t(header.size()), kHeader);
  const int64_t length = length_of(header.substr(0, kHeader), max_, name(), record_, offset);
  const int64_t whole = kHeader + length + kFooter;
  const std::string_view all = stream_.peek(whole);
  if (int64_t(all.size()) < whole) truncated(int64_t(all.size()), whole);
  taken_ = whole;
  const std::string_view data = all.substr(kHeader, size_t(length));
  const int64_t number = record_++;
  check_data(data, data.data() + length, name(), number, offset);
  *record = data;
  return true;
}

void TfRecordReader::seek(int64_t record, int64_t offset) {
  stream_.skip(std::exchange(taken_, 0));
  stream_.seek(offset);
  record_ = record;
}

TfRecordFile::TfRecordFile(std::string path, int64_t max_record_bytes)
    : file_(std::move(path)), max_(max_record_bytes) {
  InputWindow window(file_);
  for (int64_t offset = 0; offset < file_.size(); ++size_) {
    const auto truncated = [&](int64_t expected) {
      damaged(file_.path(), size_, offset,
              {"the file ends within the record, after ", file_.size() - offset, " of its ",
               expected, " bytes"});
    };
    if (file_.size() - offset < kHeader) truncated(kHeader);
    const int64_t length =
        length_of(window.view(offset, kHeader), max_, file_.path(), size_, offset);
    const int64_t whole = kHeader + length + kFooter;
    if (file_.size() - offset < whole) truncated(whole);
    if (marks_.empty() || offset - marks_.back().offset >= kStretch)
      marks_.push_back({size_, offset});
    offset += whole;
  }
}

void TfRecordFile::read(
    int64_t first, int64_t n,
    FunctionRef<void(int64_t record, int64_t offset, std::string_view bytes)> f) const {
  if (first < 0 || n < 0 || first > size_ - n)
    fail(Code::OutOfRange, {"tfrecord \"", path(), "\": records ", first, " to ", first + n - 1,
                            ", expected 0 to ", size_ - 1});
  if (!n) return;
  const auto mark =
      std::prev(std::upper_bound(marks_.begin(), marks_.end(), first,
                                 [](int64_t record, const Mark& m) { return record < m.record; }));
  // As much at once as the marks say there is, within reason.
  const auto end =
      std::lower_bound(mark, marks_.end(), first + n,
                       [](const Mark& m, int64_t record) { return m.record < record; });
  const int64_t span = (end == marks_.end() ? file_.size() : end->offset) - mark->offset;
  InputWindow window(file_, std::min(span, int64_t(1) << 20));
  int64_t offset = mark->offset;
  for (int64_t record = mark->record; record < first + n; ++record) {
    const int64_t length = length_of(window.view(offset, kHeader), max_, path(), record, offset);
    if (record >= first) {
      const std::string_view data = window.view(offset + kHeader, length + kFooter);
      check_data(data.substr(0, size_t(length)), data.data() + length, path(), record, offset);
      f(record, offset, data.substr(0, size_t(length)));
    }
    offset += kHeader + length + kFooter;
  }
}

void TfRecordWriter::write(std::string_view record) {
  char header[kHeader];
  const uint64_t length = record.size();
  std::memcpy(header, &length, 8);
  uint32_t crc = masked_crc({header, 8});
  std::memcpy(header + 8, &crc, 4);
  put({header, size_t(kHeader)});
  put(record);
  crc = masked_crc(record);
  std::memcpy(header, &crc, 4);
  put({header, size_t(kFooter)});
}

void write_tfrecord(const std::string& path, FunctionRef<void(TfRecordWriter&)> write, bool gzip) {
  write_file_atomically(path, [&](FileWriter& out) {
    std::optional<GzipWriter> deflate;
    if (gzip) deflate.emplace(out);
    TfRecordWriter writer(out, deflate ? &*deflate : nullptr);
    write(writer);
    if (deflate) deflate->finish();
  });
}

}  // namespace evenflow::format
