// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/npz.h"

#include "evenflow/format/npy.h"

namespace evenflow::format {

std::map<std::string, Array> parse_npz(std::string bytes, const std::string& name,
                                       const ZipLimits& limits) {
  const ZipReader zip(std::move(bytes), name, limits);
  std::map<std::string, Array> arrays;
  for (const ZipMember& member : zip.members()) {
    if (!member.name.ends_with(".npy")) {
      fail(Code::DataLoss, {"npz \"", name, "\": member \"", member.name, "\" is not a .npy file"});
    }
    const std::string place = concat({name, "/", member.name});
    arrays.emplace(member.name.substr(0, member.name.size() - 4),
                   parse_npy(zip.read(member.name), place));
  }
  return arrays;
}

std::map<std::string, Array> read_npz(const std::string& path, const ZipLimits& limits) {
  return parse_npz(read_file(path, limits.max_bytes), path, limits);
}

std::string npz_bytes(const std::map<std::string, Array>& arrays) {
  ZipWriter zip;
  for (const auto& [name, array] : arrays) zip.add(name + ".npy", npy_bytes(array));
  return zip.finish();
}

}  // namespace evenflow::format
