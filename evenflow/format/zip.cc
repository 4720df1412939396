// SPDX-License-Identifier: Apache-2.0
// libzip parses and inflates; the limits and the rules for names are ours.
#include "evenflow/format/zip.h"

#include <sys/stat.h>
#include <zip.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <utility>

namespace evenflow::format {
namespace {

constexpr int64_t kGranted = int64_t(1) << 20;
constexpr uint16_t kFirstDosDate = 1 << 5 | 1;  // 1980-01-01

/// Why a member's name is refused; empty when it is not.
std::string_view objection(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.size() > 4096) return "has more than 4096 bytes";
  if (name.front() == '/') return "is absolute";
  for (const char c : name) {
    if (uint8_t(c) < 32 || c == 127) return "has a control character";
    if (c == '\\') return "has a backslash";
    if (c == ':') return "has a colon";
  }
  while (!name.empty()) {
    const size_t slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    if (part.empty()) return "has an empty part";
    if (part == "." || part == "..") return "has a part \".\" or \"..\"";
    name.remove_prefix(slash == name.npos ? name.size() : slash + 1);
  }
  return {};
}

std::string message_of(zip_error_t* error) {
  std::string text = zip_error_strerror(error);
  zip_error_fini(error);
  return text;
}

struct Archive {
  zip_t* zip = nullptr;
  ~Archive() {
    if (zip) zip_discard(zip);
  }
};

}  // namespace

struct ZipReader::Impl {
  std::string bytes, name;
  Archive archive;
  std::vector<ZipMember> members;
  std::map<std::string, std::pair<size_t, zip_uint64_t>, std::less<>> index;
  std::mutex mutex;

  [[noreturn]] void refused(Code code, std::initializer_list<Part> parts) const {
    fail(code, {"zip \"", name, "\": ", concat(parts)});
  }

  void open(const ZipLimits& limits) {
    // libzip takes no bytes at all for an archive without members.
    if (bytes.size() < 22) refused(Code::DataLoss, {"has ", bytes.size(), " bytes: no archive"});
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
    if (!source) refused(Code::ResourceExhausted, {message_of(&error)});
    archive.zip = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error);
    if (!archive.zip) {
      zip_source_free(source);
      const bool no_memory = zip_error_code_zip(&error) == ZIP_ER_MEMORY;
      refused(no_memory ? Code::ResourceExhausted : Code::DataLoss, {message_of(&error)});
    }
    zip_error_fini(&error);
    const int64_t count = zip_get_num_entries(archive.zip, 0);
    if (count > limits.max_members) {
      refused(Code::ResourceExhausted,
              {"has ", count, " members, expected at most ", limits.max_members});
    }
    int64_t total = 0;
    for (int64_t i = 0; i < count; ++i) take(zip_uint64_t(i), limits, total);
  }

  void take(zip_uint64_t i, const ZipLimits& limits, int64_t& total) {
    zip_stat_t info;
    zip_stat_init(&info);
    const zip_uint64_t needed =
        ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if (zip_stat_index(archive.zip, i, ZIP_FL_ENC_GUESS, &info) != 0 ||
        (info.valid & needed) != needed) {
      refused(Code::DataLoss, {"member ", i, " cannot be described: ", zip_strerror(archive.zip)});
    }
    std::string_view member = info.name;
    const bool is_folder = member.ends_with('/');
    if (const auto why = objection(is_folder ? member.substr(0, member.size() - 1) : member);
        !why.empty()) {
      refused(Code::DataLoss, {"the name of member ", i, " ", why});
    }
    const auto member_refused = [&](Code code, std::initializer_list<Part> parts) {
      refused(code, {"member \"", member, "\": ", concat(parts)});
    };
    zip_uint8_t system = 0;
    zip_uint32_t attributes = 0;
    zip_file_get_external_attributes(archive.zip, i, 0, &system, &attributes);
    if (system == ZIP_OPSYS_UNIX && S_ISLNK(attributes >> 16)) {
      member_refused(Code::DataLoss, {"is a symbolic link"});
    }
    if (info.valid & ZIP_STAT_ENCRYPTION_METHOD && info.encryption_method != ZIP_EM_NONE) {
      member_refused(Code::Unimplemented, {"is encrypted"});
    }
    if (info.comp_method != ZIP_CM_STORE && info.comp_method != ZIP_CM_DEFLATE) {
      member_refused(Code::Unimplemented, {"compression is ", int(info.comp_method),
                                           ", expected stored (0) or deflated (8)"});
    }
    const zip_uint64_t most = zip_uint64_t(limits.max_bytes);
    if (info.size > most || info.comp_size > most ||
        int64_t(info.size) > limits.max_bytes - total) {
      member_refused(Code::ResourceExhausted, {"has ", info.size, " bytes, expected at most ",
                                               limits.max_bytes, " in all members"});
    }
    if (info.comp_method == ZIP_CM_STORE && info.size != info.comp_size) {
      member_refused(Code::DataLoss,
                     {"is stored, has ", info.size, " bytes, and takes ", info.comp_size});
    }
    if (info.comp_size > bytes.size()) {
      member_refused(Code::DataLoss,
                     {"takes ", info.comp_size, " bytes, the archive has ", bytes.size()});
    }
    total += int64_t(info.size);
    const auto inflated = [&](int64_t size, int64_t from) {
      if (size > kGranted && size / limits.max_ratio > from) {
        member_refused(Code::ResourceExhausted,
                       {"inflates ", from, " bytes to ", size, ", expected at most ",
                        limits.max_ratio, " for one"});
      }
    };
    inflated(int64_t(info.size), int64_t(info.comp_size));
    inflated(total, int64_t(bytes.size()));
    if (!index.try_emplace(std::string(member), members.size(), i).second) {
      member_refused(Code::DataLoss, {"is there twice"});
    }
    if (is_folder) {
      if (info.size != 0) member_refused(Code::DataLoss, {"is a folder and has bytes"});
      index.erase(index.find(member));
    } else {
      members.push_back({std::string(member), int64_t(info.size), int64_t(info.comp_size)});
    }
  }

  std::string read(std::string_view member) {
    const auto found = index.find(member);
    if (found == index.end()) refused(Code::NotFound, {"member \"", member, "\" is not there"});
    const std::lock_guard lock(mutex);
    zip_file_t* file = zip_fopen_index(archive.zip, found->second.second, 0);
    if (!file) {
      refused(Code::DataLoss, {"member \"", member, "\": ", zip_strerror(archive.zip)});
    }
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> closer(file, zip_fclose);
    const int64_t size = members[found->second.first].size;
    std::string out(size_t(size), '\0');
    int64_t filled = 0;
    for (;;) {
      // One byte more than stated is asked for: it must not come, and at the end the CRC is
      // checked.
      char extra;
      const bool at_end = filled == size;
      const int64_t n = zip_fread(file, at_end ? &extra : out.data() + filled,
                                  at_end ? 1 : zip_uint64_t(size - filled));
      if (n < 0) refused(Code::DataLoss, {"member \"", member, "\": ", zip_file_strerror(file)});
      if (n == 0) break;
      if (at_end)
        refused(Code::DataLoss, {"member \"", member, "\" has more than ", size, " bytes"});
      filled += n;
    }
    if (filled != size) {
      refused(Code::DataLoss, {"member \"", member, "\" has ", filled, " bytes, expected ", size});
    }
    return out;
  }
};

ZipReader::ZipReader(std::string bytes, std::string name, const ZipLimits& limits)
    : impl_(std::make_unique<Impl>()) {
  impl_->bytes = std::move(bytes);
  impl_->name = std::move(name);
  impl_->open(limits);
}
ZipReader::~ZipReader() = default;
ZipReader::ZipReader(ZipReader&&) noexcept = default;
ZipReader& ZipReader::operator=(ZipReader&&) noexcept = default;

const std::vector<ZipMember>& ZipReader::members() const { return impl_->members; }
bool ZipReader::has(std::string_view member) const {
  return impl_->index.find(member) != impl_->index.end();
}
std::string ZipReader::read(std::string_view member) const {
  try {
    return impl_->read(member);
  } catch (const std::bad_alloc&) {
    impl_->refused(Code::ResourceExhausted, {"member \"", member, "\": no memory for its bytes"});
  }
}

struct ZipWriter::Impl {
  struct Member {
    std::string name, bytes;
    bool deflate;
  };
  std::vector<Member> members;
  std::set<std::string, std::less<>> names;
  bool finished = false;
};

ZipWriter::ZipWriter() : impl_(std::make_unique<Impl>()) {}
ZipWriter::~ZipWriter() = default;

void ZipWriter::add(std::string_view member, std::string bytes, bool deflate) {
  if (impl_->finished) fail(Code::FailedPrecondition, {"zip_writer: the archive is finished"});
  if (const auto why = objection(member); !why.empty()) {
    fail({"zip_writer: the name \"", member, "\" ", why});
  }
  if (!impl_->names.emplace(member).second) {
    fail({"zip_writer: member \"", member, "\" is there already"});
  }
  impl_->members.push_back({std::string(member), std::move(bytes), deflate});
}

std::string ZipWriter::finish() {
  if (impl_->finished) fail(Code::FailedPrecondition, {"zip_writer: the archive is finished"});
  impl_->finished = true;
  zip_error_t error;
  zip_error_init(&error);
  const auto failed = [](const std::string& why) {
    fail(Code::ResourceExhausted, {"zip_writer: ", why});
  };
  zip_source_t* target = zip_source_buffer_create(nullptr, 0, 0, &error);
  if (!target) failed(message_of(&error));
  zip_source_keep(target);  // the archive takes one reference when it opens
  const std::unique_ptr<zip_source_t, void (*)(zip_source_t*)> keeper(target, zip_source_free);
  Archive archive;
  archive.zip = zip_open_from_source(target, ZIP_TRUNCATE, &error);
  if (!archive.zip) {
    zip_source_free(target);
    failed(message_of(&error));
  }
  for (const auto& m : impl_->members) {
    zip_source_t* source = zip_source_buffer(archive.zip, m.bytes.data(), m.bytes.size(), 0);
    if (!source) failed(zip_strerror(archive.zip));
    const int64_t i = zip_file_add(archive.zip, m.name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (i < 0) {
      zip_source_free(source);
      failed(zip_strerror(archive.zip));
    }
    if (zip_set_file_compression(archive.zip, zip_uint64_t(i),
                                 m.deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0) != 0 ||
        zip_file_set_dostime(archive.zip, zip_uint64_t(i), 0, kFirstDosDate, 0) != 0) {
      failed(zip_strerror(archive.zip));
    }
  }
  if (zip_close(archive.zip) != 0) failed(zip_strerror(archive.zip));
  archive.zip = nullptr;

  // libzip writes no file for an archive without members; the end record alone is one.
  if (impl_->members.empty()) return std::string("PK\x05\x06", 4) + std::string(18, '\0');
  zip_stat_t info;
  zip_stat_init(&info);
  if (zip_source_stat(target, &info) != 0 || !(info.valid & ZIP_STAT_SIZE) ||
      zip_source_open(target) != 0) {
    failed(zip_error_strerror(zip_source_error(target)));
  }
  std::string bytes(info.size, '\0');
  size_t filled = 0;
  while (filled < bytes.size()) {
    const int64_t n = zip_source_read(target, bytes.data() + filled, bytes.size() - filled);
    if (n <= 0) break;
    filled += size_t(n);
  }
  zip_source_close(target);
  if (filled != bytes.size()) failed("the archive cannot be read back");
  return bytes;
}

}  // namespace evenflow::format
