// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/hdf5_writer.h"

#include <hdf5.h>

#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace evenflow::format {
namespace {

/// While one lives, this thread alone is in libhdf5 and libhdf5 prints nothing. The library as
/// distributed is not built for threads, and another user of it keeps his own error handler.
class Library {
 public:
  Library() : lock_(mutex()) {
    H5Eget_auto2(H5E_DEFAULT, &handler_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  ~Library() {
    H5Eclear2(H5E_DEFAULT);
    H5Eset_auto2(H5E_DEFAULT, handler_, data_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex m;
    return m;
  }
  std::lock_guard<std::mutex> lock_;
  H5E_auto2_t handler_ = nullptr;
  void* data_ = nullptr;
};

[[noreturn]] void refused(std::string_view call, std::string_view path) {
  std::string reason;
  bool no_memory = false;
  auto first = [&](const H5E_error2_t* e) {
    reason = e->desc ? e->desc : "";
    no_memory |= e->maj_num == H5E_RESOURCE && e->min_num == H5E_NOSPACE;
  };
  using First = decltype(first);
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_DOWNWARD,
      [](unsigned, const H5E_error2_t* e, void* f) -> herr_t {
        (*static_cast<First*>(f))(e);
        return 0;
      },
      &first);
  fail(no_memory ? Code::ResourceExhausted : Code::Internal,
       {"hdf5_writer: ", path, ": ", call, " failed: ", reason});
}

/// A libhdf5 handle that closes itself.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), std::string_view call, std::string_view path)
      : id_(id), close_(close) {
    if (id < 0) refused(call, path);
  }
  ~Handle() { close_(id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void check(herr_t result, std::string_view call, std::string_view path) {
  if (result < 0) refused(call, path);
}

/// The path without empty parts; "" is the root.
std::string checked(std::string_view path) {
  std::string out;
  if (path.find('\0') != path.npos) fail({"hdf5_writer: path contains a zero byte"});
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == path.npos ? path.size() : slash + 1);
    if (part == "." || part == "..") fail({"hdf5_writer: path has a part \"", part, "\""});
    if (!part.empty()) out += (out.empty() ? "" : "/") + std::string(part);
  }
  return out;
}

Handle type_of(DType dtype, std::string_view path) {
  const auto copy = [&](hid_t type) { return Handle(H5Tcopy(type), H5Tclose, "H5Tcopy", path); };
  switch (dtype) {
    case DType::f32:
      return copy(H5T_IEEE_F32LE);
    case DType::f64:
      return copy(H5T_IEEE_F64LE);
    case DType::i32:
      return copy(H5T_STD_I32LE);
    case DType::i64:
      return copy(H5T_STD_I64LE);
    case DType::u8:
      return copy(H5T_STD_U8LE);
    case DType::bf16:
      return Handle(H5Tcreate(H5T_OPAQUE, 2), H5Tclose, "H5Tcreate", path);
    case DType::f16: {
      const hid_t half = H5Tcopy(H5T_IEEE_F32LE);
      if (half >= 0) {
        // The fields before the size: libhdf5 checks each step that they fit.
        H5Tset_fields(half, 15, 10, 5, 0, 10);
        H5Tset_size(half, 2);
        H5Tset_ebias(half, 15);
      }
      return Handle(half, H5Tclose, "H5Tcopy", path);
    }
    case DType::boolean: {
      const hid_t type = H5Tenum_create(H5T_STD_I8LE);
      if (type >= 0) {
        const int8_t no = 0, yes = 1;
        H5Tenum_insert(type, "FALSE", &no);
        H5Tenum_insert(type, "TRUE", &yes);
      }
      return Handle(type, H5Tclose, "H5Tenum_create", path);
    }
  }
  fail(Code::Internal, {"hdf5_writer: dtype ", int(dtype)});
}

}  // namespace

struct Hdf5Writer::Impl {
  hid_t file = -1;
  std::map<std::string, bool, std::less<>> objects;  ///< true: a group

  void add_group(const std::string& path) {
    if (path.empty()) return;
    const auto found = objects.find(path);
    if (found != objects.end()) {
      if (!found->second) fail({"hdf5_writer: ", path, " is a dataset, expected a group"});
      return;
    }
    const size_t slash = path.rfind('/');
    if (slash != path.npos) add_group(path.substr(0, slash));
    const Handle properties(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, "H5Pcreate", path);
    check(H5Pset_obj_track_times(properties, false), "H5Pset_obj_track_times", path);
    const Handle group(H5Gcreate2(file, path.c_str(), H5P_DEFAULT, properties, H5P_DEFAULT),
                       H5Gclose, "H5Gcreate2", path);
    objects.emplace(path, true);
  }

  void add_attribute(const std::string& path, const std::string& name, const std::string& value) {
    const Handle object(H5Oopen(file, path.empty() ? "/" : path.c_str(), H5P_DEFAULT), H5Oclose,
                        "H5Oopen", path);
    if (H5Aexists(object, name.c_str()) > 0) {
      fail({"hdf5_writer: ", path, ": attribute \"", name, "\" is there already"});
    }
    const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "H5Tcopy", path);
    check(H5Tset_size(type, H5T_VARIABLE), "H5Tset_size", path);
    check(H5Tset_cset(type, H5T_CSET_UTF8), "H5Tset_cset", path);
    const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "H5Screate", path);
    const Handle attribute(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT),
                           H5Aclose, "H5Acreate2", path);
    const char* text = value.c_str();
    check(H5Awrite(attribute, type, &text), "H5Awrite", path);
  }

  void expect_open() const {
    if (file < 0) fail(Code::FailedPrecondition, {"hdf5_writer: the file is finished"});
  }
};

Hdf5Writer::Hdf5Writer() : impl_(std::make_unique<Impl>()) {
  static unsigned serial = 0;
  const Library library;
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "H5Pcreate", "/");
  const Handle create(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "H5Pcreate", "/");
  check(H5Pset_fapl_core(access, size_t(1) << 16, false), "H5Pset_fapl_core", "/");
  check(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), "H5Pset_fclose_degree", "/");
  check(H5Pset_obj_track_times(create, false), "H5Pset_obj_track_times", "/");
  // The name is never a file's; libhdf5 takes two open files of one name for the same.
  const std::string name = concat({"evenflow-", serial++, ".h5"});
  impl_->file = H5Fcreate(name.c_str(), H5F_ACC_TRUNC, create, access);
  if (impl_->file < 0) refused("H5Fcreate", "/");
}

Hdf5Writer::~Hdf5Writer() {
  if (impl_->file < 0) return;
  const Library library;
  H5Fclose(impl_->file);
}

void Hdf5Writer::group(std::string_view path) {
  impl_->expect_open();
  const std::string at = checked(path);
  const Library library;
  impl_->add_group(at);
}

void Hdf5Writer::dataset(std::string_view path, const Array& array) {
  impl_->expect_open();
  const std::string at = checked(path);
  if (at.empty()) fail({"hdf5_writer: the dataset's path is empty"});
  if (impl_->objects.count(at)) fail({"hdf5_writer: ", at, " is there already"});
  const int64_t bytes = array.sig.bytes();
  if (!array.data || array.data->bytes() < bytes) {
    fail({"hdf5_writer: ", at, ": data has ", array.data ? array.data->bytes() : 0,
          " bytes, expected ", bytes, " for ", str(array.sig)});
  }
  const Library library;
  const size_t slash = at.rfind('/');
  if (slash != at.npos) impl_->add_group(at.substr(0, slash));
  const Handle type = type_of(array.sig.dtype, at);
  const Shape& shape = array.sig.shape;
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  const Handle space(
      dims.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(shape.rank(), dims.data(), nullptr),
      H5Sclose, "H5Screate", at);
  const Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "H5Pcreate", at);
  check(H5Pset_obj_track_times(properties, false), "H5Pset_obj_track_times", at);
  const Handle dataset(
      H5Dcreate2(impl_->file, at.c_str(), type, space, H5P_DEFAULT, properties, H5P_DEFAULT),
      H5Dclose, "H5Dcreate2", at);
  if (bytes > 0) {
    check(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                   static_cast<const Buffer&>(*array.data).data()),
          "H5Dwrite", at);
  }
  impl_->objects.emplace(at, false);
  if (array.sig.dtype == DType::bf16) impl_->add_attribute(at, "dtype", "bfloat16");
}

void Hdf5Writer::attribute(std::string_view path, std::string_view name, std::string_view value) {
  impl_->expect_open();
  const std::string at = checked(path);
  if (!at.empty() && !impl_->objects.count(at)) {
    fail(Code::NotFound, {"hdf5_writer: ", at, " is not there"});
  }
  if (name.empty() || name.find('\0') != name.npos || value.find('\0') != value.npos) {
    fail({"hdf5_writer: ", at,
          ": an attribute's name is empty, or it or its value has a zero byte"});
  }
  const Library library;
  impl_->add_attribute(at, std::string(name), std::string(value));
}

std::string Hdf5Writer::finish() {
  impl_->expect_open();
  const Library library;
  check(H5Fflush(impl_->file, H5F_SCOPE_GLOBAL), "H5Fflush", "/");
  const ssize_t size = H5Fget_file_image(impl_->file, nullptr, 0);
  if (size < 0) refused("H5Fget_file_image", "/");
  std::string bytes(size_t(size), '\0');
  if (H5Fget_file_image(impl_->file, bytes.data(), bytes.size()) < 0) {
    refused("H5Fget_file_image", "/");
  }
  H5Fclose(std::exchange(impl_->file, -1));
  return bytes;
}

}  // namespace evenflow::format
