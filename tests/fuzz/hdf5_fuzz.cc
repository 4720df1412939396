// SPDX-License-Identifier: Apache-2.0
// Any bytes at all give a value or an Error. cmake/Fuzz.cmake says how it is run.
#include "evenflow/format/hdf5_reader.h"

namespace {
void read_all(const evenflow::format::Hdf5File& file, const std::string& path) {
  for (const std::string& name : file.datasets(path)) {
    try {
      file.read(path + "/" + name);
      file.attribute(path + "/" + name, "name");
    } catch (const evenflow::Error&) {
    }
  }
  for (const std::string& name : file.groups(path)) read_all(file, path + "/" + name);
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const Hdf5File file{std::string(bytes)};
    read_all(file, "");
  } catch (const evenflow::Error&) {
  }
  return 0;
}
