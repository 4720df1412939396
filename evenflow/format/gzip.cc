// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/gzip.h"

#include <zlib.h>

#include <algorithm>

namespace evenflow::format {

bool is_gzip(std::string_view b) { return b.size() >= 2 && b[0] == '\x1f' && b[1] == '\x8b'; }

std::string gunzip(std::string_view bytes, std::string_view name, int64_t max_bytes) {
  struct Stream : z_stream {
    Stream() : z_stream() {
      if (inflateInit2(this, 15 + 16) != Z_OK)  // 16: gzip's header and checksum
        fail(Code::ResourceExhausted, {"gzip: no memory to inflate"});
    }
    ~Stream() { inflateEnd(this); }
  } stream;
  std::string all;
  size_t at = 0;
  bool ended = false;
  char piece[1 << 16];
  while (at < bytes.size()) {
    if (ended) {
      if (!is_gzip(bytes.substr(at)) || inflateReset(&stream) != Z_OK)
        fail(Code::DataLoss, {name, ": there are bytes behind the end of the gzip data"});
      ended = false;
    }
    const size_t some = std::min<size_t>(bytes.size() - at, 1 << 30);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + at));
    stream.avail_in = uInt(some);
    int r = Z_OK;
    do {
      stream.next_out = reinterpret_cast<Bytef*>(piece), stream.avail_out = sizeof piece;
      r = inflate(&stream, Z_NO_FLUSH);
      if (r == Z_MEM_ERROR) fail(Code::ResourceExhausted, {"gzip: no memory to inflate"});
      if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
        fail(Code::DataLoss, {name, ": the gzip data is damaged"});
      const size_t n = sizeof piece - stream.avail_out;
      if (int64_t(all.size() + n) > max_bytes)
        fail(Code::ResourceExhausted,
             {name, ": inflates to more than ", max_bytes, " bytes, expected at most so many"});
      all.append(piece, n);
    } while (r == Z_OK && stream.avail_out == 0);
    at += some - stream.avail_in;
    ended = r == Z_STREAM_END;
    if (!ended && stream.avail_in) fail(Code::DataLoss, {name, ": the gzip data is damaged"});
  }
  if (!ended) fail(Code::DataLoss, {name, ": the gzip data ends too early"});
  return all;
}

}  // namespace evenflow::format
