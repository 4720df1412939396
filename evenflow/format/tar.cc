// SPDX-License-Identifier: Apache-2.0
// POSIX.1-2001, pax: "ustar Interchange Format" and "pax Extended Header"; GNU tar's manual, "Basic
// Tar Format", for its long names and its binary sizes.
#include "evenflow/format/tar.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

namespace evenflow::format {
namespace {

constexpr int64_t kBlock = 512;
constexpr int64_t kMaxExtended = int64_t(1) << 20;  // bytes of a pax header

int64_t padded(int64_t n) { return (n + kBlock - 1) / kBlock * kBlock; }

/// A text field: to its zero byte or its end.
std::string_view text(std::string_view header, size_t at, size_t n) {
  const std::string_view field = header.substr(at, n);
  return field.substr(0, field.find('\0'));
}

/// Octal digits with blanks around, or GNU's binary form: the high bit, then big-endian.
std::optional<int64_t> number(std::string_view field) {
  uint64_t v = 0;
  if (!field.empty() && uint8_t(field[0]) >= 0x80) {
    if (uint8_t(field[0]) != 0x80) return {};  // negative, or above 2^63
    for (const char c : field.substr(1)) {
      if (v >> 55) return {};
      v = v << 8 | uint8_t(c);
    }
    return int64_t(v);
  }
  size_t i = 0;
  while (i < field.size() && field[i] == ' ') ++i;
  const size_t first = i;
  for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; ++i)
    v = v << 3 | uint64_t(field[i] - '0');
  if (i == first && i < field.size() && field[i] != '\0') return {};
  for (; i < field.size(); ++i)
    if (field[i] != ' ' && field[i] != '\0') return {};
  return int64_t(v);  // at most 12 digits of 3 bits
}

bool checksum_fits(std::string_view header) {
  const auto stated = number(header.substr(148, 8));
  int64_t plain = 0, with_sign = 0;  // some old writers summed signed bytes
  for (size_t i = 0; i < size_t(kBlock); ++i) {
    const char c = i >= 148 && i < 156 ? ' ' : header[i];
    plain += uint8_t(c), with_sign += static_cast<signed char>(c);
  }
  return stated && (*stated == plain || *stated == with_sign);
}

std::string objection(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.front() == '/') return "is absolute";
  for (const char c : name)
    if (uint8_t(c) < 32 || c == 127) return "holds a control character";
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    if (part == "..") return "holds \"..\"";
    if (part.empty()) return "holds an empty part";
    at = end + 1;
  }
  return {};
}

std::string shown(std::string_view s) {
  std::string out;
  for (const char c : s.substr(0, 80)) out += c >= 32 && c < 127 ? c : '?';
  return out;
}

}  // namespace

void TarReader::pass(int64_t n) {
  while (n > 0) {
    const int64_t some = std::min(n, int64_t(stream_.peek(1).size()));
    if (!some) end_of_data();
    stream_.skip(some);
    n -= some;
  }
}

void TarReader::end_of_data() {
  fail(Code::DataLoss,
       {"tar ", place(name(), entry_, stream_.offset()), ": the archive ends within an entry"});
}

bool TarReader::next(TarEntry* entry) {
  if (const int64_t n = std::exchange(pending_, 0)) {
    if (stream_.compressed())
      pass(n);
    else
      stream_.seek(stream_.offset() + n);
  }
  std::string long_name;  // of a pax or GNU header before this one
  int64_t long_size = -1;
  for (;;) {
    const int64_t at = stream_.offset();
    const auto refuse = [&](Code code, std::initializer_list<Part> what) {
      fail(code, {"tar ", place(name(), entry_, at), ": ", concat(what)});
    };
    std::string_view header = stream_.peek(kBlock);
    // Writers end with two blocks of zeros; some end without.
    if (header.empty()) {
      if (!long_name.empty() || long_size >= 0) end_of_data();
      return false;
    }
    if (int64_t(header.size()) < kBlock) end_of_data();
    header = header.substr(0, size_t(kBlock));
    if (std::all_of(header.begin(), header.end(), [](char c) { return c == 0; })) return false;
    if (!checksum_fits(header))
      refuse(Code::DataLoss, {"the checksum of the header is wrong; this is no tar archive, or it "
                              "is damaged"});
    const auto stated = number(header.substr(124, 12));
    if (!stated) refuse(Code::DataLoss, {"the size is no number"});
    const char type = header[156];
    const bool extension = type == 'x' || type == 'g' || type == 'L' || type == 'K';
    const int64_t size = long_size >= 0 && !extension ? long_size : *stated;
    std::string own(text(header, 0, 100));
    if (header.substr(257, 6) == std::string_view("ustar\0", 6))
      if (const auto prefix = text(header, 345, 155); !prefix.empty())
        own = concat({prefix, "/", own});
    if (!long_name.empty() && !extension) own = long_name;
    stream_.skip(kBlock);

    if (extension) {
      if (size > kMaxExtended)
        refuse(Code::ResourceExhausted,
               {"an extended header has ", size, " bytes, expected at most ", kMaxExtended});
      std::string_view body = stream_.peek(padded(size));
      if (int64_t(body.size()) < padded(size)) end_of_data();
      body = body.substr(0, size_t(size));
      if (type == 'L') {
        long_name = body.substr(0, body.find('\0'));
      } else if (type == 'x') {  // lines of "length keyword=value\n"
        while (!body.empty()) {
          size_t length = 0;
          const auto [stop, error] =
              std::from_chars(body.data(), body.data() + std::min<size_t>(body.size(), 8), length);
          const size_t digits = size_t(stop - body.data());
          if (error != std::errc() || length <= digits + 1 || length > body.size() ||
              body[digits] != ' ' || body[length - 1] != '\n')
            refuse(Code::DataLoss, {"a pax header is damaged"});
          const std::string_view line = body.substr(digits + 1, length - digits - 2);
          const size_t equals = std::min(line.find('='), line.size());
          const std::string_view key = line.substr(0, equals);
          const std::string_view value = line.substr(std::min(equals + 1, line.size()));
          if (key == "path") long_name = value;
          if (key == "size") {
            int64_t v = 0;
            const auto [end, wrong] = std::from_chars(value.data(), value.data() + value.size(), v);
            if (wrong != std::errc() || end != value.data() + value.size() || v < 0)
              refuse(Code::DataLoss, {"the size in a pax header is no number"});
            long_size = v;
          }
          if (key.starts_with("GNU.sparse"))
            refuse(Code::Unimplemented, {"a sparse file, expected a plain one"});
          body.remove_prefix(length);
        }
      }
      if (int64_t(long_name.size()) > limits_.max_name_bytes)
        refuse(Code::ResourceExhausted, {"a name has ", long_name.size(),
                                         " bytes, expected at most ", limits_.max_name_bytes});
      stream_.skip(padded(size));
      continue;
    }

    const bool folder = type == '5' || (type == '\0' && own.ends_with('/'));
    if (type == '1' || type == '2')
      refuse(Code::DataLoss, {"\"", shown(own), "\" is a link, expected a file"});
    if (type == '3' || type == '4' || type == '6')
      refuse(Code::DataLoss, {"\"", shown(own), "\" is a device or a pipe, expected a file"});
    if (type == 'S')
      refuse(Code::Unimplemented, {"\"", shown(own), "\" is a sparse file, expected a plain one"});
    if (!folder && type != '0' && type != '\0' && type != '7')
      refuse(Code::Unimplemented,
             {"\"", shown(own), "\" has the type ", int(type), ", expected a file"});
    if (own.starts_with("./")) own.erase(0, 2);  // tar of a folder writes them
    if (folder) {
      while (own.ends_with('/')) own.pop_back();
      if (own.empty()) own = ".";
    }
    if (const auto why = objection(own); !why.empty())
      refuse(Code::DataLoss, {"the name \"", shown(own), "\" ", why});
    if (size > limits_.max_file_bytes)
      refuse(Code::ResourceExhausted, {"\"", shown(own), "\" has ", size,
                                       " bytes, expected at most ", limits_.max_file_bytes});
    ++entry_;
    long_name.clear(), long_size = -1;
    if (folder) {
      pass(padded(size));
      continue;
    }
    *entry = {std::move(own), stream_.offset(), size};
    size_ = size;
    pending_ = padded(size);
    return true;
  }
}

std::string_view TarReader::read() {
  const std::string_view all = stream_.peek(pending_);
  if (int64_t(all.size()) < pending_) end_of_data();
  return all.substr(0, size_t(size_));
}

void TarReader::seek(int64_t entry, int64_t offset) {
  pending_ = 0;
  stream_.seek(offset);
  entry_ = entry;
}

}  // namespace evenflow::format
