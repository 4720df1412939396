// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "evenflow/format/input.h"

namespace evenflow::format {

bool is_gzip(std::string_view b) { return b.size() >= 2 && b[0] == '\x1f' && b[1] == '\x8b'; }

std::string gunzip(std::string_view bytes, std::string_view name, int64_t max_bytes) {
  if (!is_gzip(bytes)) fail(Code::DataLoss, {"gzip \"", name, "\": the data is no gzip data"});
  InputStream stream(bytes, std::string(name),
                     {.max_bytes = max_bytes, .max_ratio = std::numeric_limits<int64_t>::max()});
  std::string all;
  for (;;) {
    const std::string_view piece = stream.peek(1);
    if (piece.empty()) return all;
    all.append(piece);
    stream.skip(int64_t(piece.size()));
  }
}

struct GzipWriter::Impl {
  explicit Impl(FileWriter& file) : out(file) {
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK)
      fail(Code::ResourceExhausted, {"gzip: no memory to deflate"});
  }
  ~Impl() { deflateEnd(&stream); }
  void put(std::string_view bytes, int flush) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = uInt(bytes.size());
    int r;
    do {
      char piece[1 << 16];
      stream.next_out = reinterpret_cast<Bytef*>(piece), stream.avail_out = sizeof piece;
      r = deflate(&stream, flush);
      out.append({piece, sizeof piece - stream.avail_out});
    } while (stream.avail_out == 0 || (flush == Z_FINISH && r == Z_OK));
  }

  FileWriter& out;
  z_stream stream{};
  bool finished = false;
};

GzipWriter::GzipWriter(FileWriter& out) : impl_(std::make_unique<Impl>(out)) {}
GzipWriter::~GzipWriter() = default;

void GzipWriter::append(std::string_view bytes) {
  if (impl_->finished) fail(Code::FailedPrecondition, {"gzip_writer: the data is finished"});
  for (; !bytes.empty(); bytes.remove_prefix(std::min<size_t>(bytes.size(), 1 << 30)))
    impl_->put(bytes.substr(0, 1 << 30), Z_NO_FLUSH);
}

void GzipWriter::finish() {
  if (impl_->finished) fail(Code::FailedPrecondition, {"gzip_writer: the data is finished"});
  impl_->finished = true;
  impl_->put({}, Z_FINISH);
}

}  // namespace evenflow::format
