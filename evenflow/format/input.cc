// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "evenflow/format/gzip.h"

namespace evenflow::format {
namespace {

constexpr int64_t kPiece = int64_t(256) << 10;  // read from the disk, or inflated, at once
constexpr int64_t kGranted = int64_t(16) << 20;

Code code_of(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Code::NotFound;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return Code::ResourceExhausted;
    case EIO:
      return Code::DataLoss;
    case ENAMETOOLONG:
    case ELOOP:
    case EINVAL:
    case EISDIR:
      return Code::InvalidArgument;
    default:
      return Code::FailedPrecondition;
  }
}

[[noreturn]] void fail_errno(const std::string& path, std::string_view step, int error) {
  fail(code_of(error),
       {"file \"", path, "\": ", step, ": ", std::generic_category().message(error)});
}

}  // namespace

std::string place(std::string_view file, int64_t record, int64_t offset) {
  return concat({"\"", file, "\" record ", record, " (byte ", offset, ")"});
}

InputFile::InputFile(std::string path) : path_(std::move(path)) {
  if (path_.empty()) fail({"file: path is empty, expected a file's name"});
  if (path_.find('\0') != path_.npos) fail({"file: path contains a zero byte"});
  do {
    fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) fail_errno(path_, "open", errno);
  struct stat info {};
  int error = ::fstat(fd_, &info) == 0 ? 0 : errno;
  if (!error && S_ISDIR(info.st_mode)) error = EISDIR;
  if (error || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    if (error) fail_errno(path_, "open", error);
    fail({"file \"", path_, "\": is a pipe or a device, expected a file"});
  }
  size_ = info.st_size;
}

InputFile::~InputFile() { ::close(fd_); }

int64_t InputFile::read_some(int64_t offset, char* to, int64_t n) const {
  int64_t filled = 0;
  while (filled < n) {
    const ssize_t got =
        ::pread(fd_, to + filled, size_t(std::min(n - filled, int64_t(1) << 30)), offset + filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno(path_, "read", errno);
    if (got == 0) break;
    filled += got;
  }
  return filled;
}

void InputFile::read(int64_t offset, char* to, int64_t n) const {
  const int64_t got = read_some(offset, to, n);
  if (got < n) {
    const bool shorter = offset + got < size_;
    fail(Code::DataLoss,
         {"file \"", path_, "\": ends at byte ", offset + got, ", expected ", n, " bytes at byte ",
          offset,
          shorter ? concat({"; it changed: it had ", size_, " bytes when it was opened"})
                  : std::string()});
  }
}

void InputWindow::move(int64_t offset, int64_t n) {
  // A length that a file claims for itself is compared with what there is before memory is taken.
  if (offset < 0 || n < 0 || offset > file_->size() || n > file_->size() - offset)
    fail(Code::DataLoss, {"file \"", file_->path(), "\": ends at byte ", file_->size(),
                          ", expected ", n, " bytes at byte ", offset});
  const int64_t want = std::min(std::max(n, piece_), file_->size() - offset);
  if (room_ < want) try {
      buffer_.reset();
      filled_ = room_ = 0;
      buffer_.reset(new char[size_t(want)]);
      room_ = want;
    } catch (const std::bad_alloc&) {
      fail(Code::ResourceExhausted,
           {"file \"", file_->path(), "\": no memory for ", want, " bytes"});
    }
  filled_ = 0;
  begin_ = offset;
  file_->read(offset, buffer_.get(), want);
  filled_ = want;
}

struct InputStream::Impl {
  std::string name;
  std::unique_ptr<InputFile> file;  // or
  std::string_view memory;
  InflateLimits limits;
  bool gzip = false;

  std::vector<char> buffer;  // inflated bytes not taken yet: [begin, end)
  int64_t begin = 0, end = 0;
  int64_t taken = 0;  // offset of `begin` in the inflated stream
  int64_t at = 0;     // offset in the file of what is read next
  bool ended = false;

  std::vector<char> raw;  // compressed bytes not inflated yet: [raw_at, raw_end)
  int64_t raw_at = 0, raw_end = 0;
  int64_t inflated = 0;
  bool member_ended = false;
  z_stream stream{};
  bool stream_open = false;

  ~Impl() {
    if (stream_open) inflateEnd(&stream);
  }

  int64_t size() const { return file ? file->size() : int64_t(memory.size()); }

  int64_t raw_read(char* to, int64_t n) {
    int64_t got;
    if (file) {
      got = file->read_some(at, to, n);
      if (got < n && at + got < file->size()) file->read(at, to, n);  // says that it changed
    } else {
      got = std::min(n, int64_t(memory.size()) - at);
      std::memcpy(to, memory.data() + at, size_t(got));
    }
    at += got;
    return got;
  }

  void open() {
    char magic[2];
    const int64_t got = raw_read(magic, 2);
    gzip = is_gzip({magic, size_t(got)});
    rewind();
  }

  void rewind() {
    begin = end = taken = at = raw_at = raw_end = inflated = 0;
    ended = member_ended = false;
    if (!gzip) return;
    if (stream_open) inflateEnd(&stream);
    stream = z_stream();
    stream_open = inflateInit2(&stream, 15 + 16) == Z_OK;  // 16: gzip's header and checksum
    if (!stream_open) fail(Code::ResourceExhausted, {"gzip \"", name, "\": no memory to inflate"});
    raw.resize(kPiece);
  }

  [[noreturn]] void damaged(std::string_view what) const {
    fail(Code::DataLoss, {"gzip \"", name, "\": ", what, " (byte ", at - (raw_end - raw_at),
                          " of the file, ", inflated, " inflated)"});
  }

  int64_t inflate_some(char* to, int64_t n) {
    for (;;) {
      if (raw_at == raw_end) {
        raw_at = 0;
        raw_end = raw_read(raw.data(), kPiece);
        if (raw_end == 0) {
          if (!member_ended) damaged("the data ends too early");
          return 0;
        }
      }
      if (member_ended) {  // another member, or the end
        if (raw[size_t(raw_at)] != '\x1f' || inflateReset(&stream) != Z_OK)
          damaged("there are bytes behind the end of the data");
        member_ended = false;
      }
      stream.next_in = reinterpret_cast<Bytef*>(raw.data() + raw_at);
      stream.avail_in = uInt(raw_end - raw_at);
      stream.next_out = reinterpret_cast<Bytef*>(to);
      stream.avail_out = uInt(n);
      const int r = inflate(&stream, Z_NO_FLUSH);
      raw_at = raw_end - int64_t(stream.avail_in);
      if (r == Z_MEM_ERROR)
        fail(Code::ResourceExhausted, {"gzip \"", name, "\": no memory to inflate"});
      if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR) damaged("the data is damaged");
      member_ended = r == Z_STREAM_END;
      const int64_t got = n - int64_t(stream.avail_out);
      inflated += got;
      const int64_t used = at - (raw_end - raw_at);
      if (inflated > limits.max_bytes)
        fail(Code::ResourceExhausted, {"gzip \"", name, "\": inflates to more than ",
                                       limits.max_bytes, " bytes, expected at most so many"});
      if (inflated > kGranted && inflated / limits.max_ratio > used)
        fail(Code::ResourceExhausted,
             {"gzip \"", name, "\": ", used, " bytes inflate to more than ", inflated,
              ", expected at most ", limits.max_ratio, " for each"});
      if (got) return got;
    }
  }

  void fill(int64_t n) {
    if (end - begin >= n || ended) return;
    if (begin) {
      std::memmove(buffer.data(), buffer.data() + begin, size_t(end - begin));
      end -= begin, begin = 0;
    }
    while (end < n && !ended) {
      // Grown as bytes arrive: a large n of a hostile header costs nothing.
      const int64_t room = end + kPiece;
      if (int64_t(buffer.size()) < room) {
        try {
          buffer.resize(size_t(std::max(room, std::min(n, 2 * end) + kPiece)));
        } catch (const std::bad_alloc&) {
          fail(Code::ResourceExhausted, {"file \"", name, "\": no memory for ", room, " bytes"});
        }
      }
      const int64_t some = int64_t(buffer.size()) - end;
      const int64_t got =
          gzip ? inflate_some(buffer.data() + end, some) : raw_read(buffer.data() + end, some);
      end += got;
      ended = got == 0;
    }
  }
};

InputStream::InputStream(std::string path, const InflateLimits& limits)
    : impl_(std::make_unique<Impl>()) {
  impl_->file = std::make_unique<InputFile>(path);
  impl_->name = std::move(path);
  impl_->limits = limits;
  impl_->open();
}
InputStream::InputStream(std::string_view bytes, std::string name, const InflateLimits& limits)
    : impl_(std::make_unique<Impl>()) {
  impl_->memory = bytes;
  impl_->name = std::move(name);
  impl_->limits = limits;
  impl_->open();
}
InputStream::~InputStream() = default;
InputStream::InputStream(InputStream&&) noexcept = default;
InputStream& InputStream::operator=(InputStream&&) noexcept = default;

const std::string& InputStream::name() const { return impl_->name; }
bool InputStream::compressed() const { return impl_->gzip; }
int64_t InputStream::offset() const { return impl_->taken; }

std::string_view InputStream::peek(int64_t n) {
  impl_->fill(n);
  return {impl_->buffer.data() + impl_->begin, size_t(impl_->end - impl_->begin)};
}

void InputStream::skip(int64_t n) {
  if (n < 0 || n > impl_->end - impl_->begin)
    fail(Code::Internal, {"file \"", impl_->name, "\": skip ", n, " of ", impl_->end - impl_->begin,
                          " bytes in sight"});
  impl_->begin += n, impl_->taken += n;
}

void InputStream::seek(int64_t offset) {
  Impl& s = *impl_;
  if (offset < 0) fail({"file \"", s.name, "\": offset ", offset, ", expected at least 0"});
  const auto ends = [&] {
    fail(Code::DataLoss, {"file \"", s.name, "\": ends at byte ", s.taken + (s.end - s.begin),
                          ", expected one at ", offset});
  };
  if (offset >= s.taken && offset <= s.taken + (s.end - s.begin)) return skip(offset - s.taken);
  if (!s.gzip) {
    if (offset > s.size()) ends();
    s.begin = s.end = 0, s.ended = false;
    s.taken = s.at = offset;
    return;
  }
  if (offset < s.taken) s.rewind();
  while (s.taken < offset) {
    const int64_t some = std::min<int64_t>(int64_t(peek(1).size()), offset - s.taken);
    if (!some) ends();
    skip(some);
  }
}

}  // namespace evenflow::format
