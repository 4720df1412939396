// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/hdf5_reader.h"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "evenflow/format/file.h"
#include "evenflow/format/hdf5_writer.h"

namespace evenflow::format {
namespace {

std::string fixture(const std::string& name) {
  return read_file(EVENFLOW_SOURCE_DIR "/tests/format/" + name);
}

/// A dataset as libhdf5 reads it: numbers as doubles, the rest as bytes.
struct Theirs {
  std::vector<int64_t> dims;
  std::vector<double> numbers;
  std::string raw;
};

std::map<std::string, Theirs> read_by_libhdf5(const std::string& bytes) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_fapl_core(access, 1 << 16, false);
  H5Pset_file_image(access, const_cast<char*>(bytes.data()), bytes.size());
  const hid_t file = H5Fopen("image.h5", H5F_ACC_RDONLY, access);
  EXPECT_GE(file, 0);
  std::vector<std::string> names;
  H5Lvisit(
      file, H5_INDEX_NAME, H5_ITER_NATIVE,
      [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->push_back(name);
        return 0;
      },
      &names);
  std::map<std::string, Theirs> all;
  for (const std::string& name : names) {
    const hid_t object = H5Oopen(file, name.c_str(), H5P_DEFAULT);
    if (H5Iget_type(object) == H5I_DATASET) {
      Theirs& t = all[name];
      const hid_t space = H5Dget_space(object), type = H5Dget_type(object);
      std::vector<hsize_t> dims(size_t(H5Sget_simple_extent_ndims(space)));
      H5Sget_simple_extent_dims(space, dims.data(), nullptr);
      t.dims.assign(dims.begin(), dims.end());
      const auto n = size_t(H5Sget_simple_extent_npoints(space));
      const H5T_class_t kind = H5Tget_class(type);
      if (kind == H5T_INTEGER || kind == H5T_FLOAT) {
        t.numbers.resize(n);
        EXPECT_GE(
            H5Dread(object, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, t.numbers.data()), 0)
            << name;
      } else {
        t.raw.resize(n * H5Tget_size(type));
        EXPECT_GE(H5Dread(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, t.raw.data()), 0) << name;
      }
      H5Tclose(type);
      H5Sclose(space);
    }
    H5Oclose(object);
  }
  H5Fclose(file);
  H5Pclose(access);
  return all;
}

std::vector<double> numbers(const Array& a) {
  std::vector<double> out;
  visit(a.sig.dtype, [&](auto zero) {
    using T = decltype(zero);
    const auto* p = static_cast<const T*>(a.data->data());
    for (int64_t i = 0; i < a.sig.shape.count(); ++i) out.push_back(double(p[i]));
  });
  return out;
}

std::vector<std::string> all_datasets(const Hdf5File& file, const std::string& path = "") {
  std::vector<std::string> all;
  const std::string prefix = path.empty() ? "" : path + "/";
  for (const auto& name : file.datasets(path)) all.push_back(prefix + name);
  for (const auto& name : file.groups(path)) {
    for (const auto& below : all_datasets(file, prefix + name)) all.push_back(below);
  }
  return all;
}

void expect_same_as_libhdf5(const std::string& bytes) {
  const auto theirs = read_by_libhdf5(bytes);
  const Hdf5File ours(bytes);
  EXPECT_EQ(all_datasets(ours).size(), theirs.size());
  for (const auto& [name, t] : theirs) {
    SCOPED_TRACE(name);
    const Array a = ours.read(name);
    EXPECT_EQ(a.sig, ours.sig(name));
    EXPECT_EQ(std::vector<int64_t>(a.sig.shape.begin(), a.sig.shape.end()), t.dims);
    if (t.raw.empty()) {
      EXPECT_EQ(numbers(a), t.numbers);
    } else {
      ASSERT_EQ(a.sig.bytes(), int64_t(t.raw.size()));
      EXPECT_EQ(std::memcmp(a.data->data(), t.raw.data(), t.raw.size()), 0);
    }
  }
}

TEST(Hdf5Reader, SameAsLibhdf5) {
  for (const char* name : {"types.h5", "chunked.h5", "many.h5", "v110.h5", "model.weights.h5"}) {
    SCOPED_TRACE(name);
    expect_same_as_libhdf5(fixture(name));
  }
}

// The newest form, which this libhdf5 may not know, against the older one.
TEST(Hdf5Reader, NewestFormat) {
  const Hdf5File latest(fixture("latest.h5")), known(fixture("v110.h5"));
  ASSERT_EQ(all_datasets(latest), all_datasets(known));
  for (const auto& name : all_datasets(latest)) {
    EXPECT_EQ(latest.sig(name), known.sig(name));
    EXPECT_EQ(numbers(latest.read(name)), numbers(known.read(name)));
  }
  EXPECT_EQ(latest.attribute("a/b", "name"), "b");
}

TEST(Hdf5Reader, Types) {
  const Hdf5File f(fixture("types.h5"));
  EXPECT_EQ(f.groups(), (std::vector<std::string>{"big", "little"}));
  EXPECT_EQ(f.sig("/little/u1").dtype, DType::u8);
  EXPECT_EQ(f.sig("little/u2").dtype, DType::i32);
  EXPECT_EQ(f.sig("big/u4/").dtype, DType::i64);
  EXPECT_EQ(f.sig("bool"), (Sig{DType::boolean, {3}}));
  EXPECT_EQ(f.sig("scalar"), (Sig{DType::f32, {}}));
  EXPECT_EQ(f.sig("empty"), (Sig{DType::f32, {0, 3}}));
  EXPECT_EQ(f.read("empty").data->bytes(), 0);
  EXPECT_EQ(f.attribute("", "text"),
            "gr\xc3\xbc\xc3\x9f"
            "e");
  EXPECT_EQ(f.attribute("", "fixed"), "fixed");
  EXPECT_EQ(f.attribute("", "number"), std::nullopt);
  EXPECT_EQ(f.attribute("", "none"), std::nullopt);
  EXPECT_TRUE(f.has_dataset("bool") && !f.has_group("bool") && f.has_group("big"));
  EXPECT_FALSE(f.has_dataset("big") || f.has_dataset("none/of") || f.has_group("bool/x"));
}

TEST(Hdf5Reader, KerasWeights) {
  const Hdf5File f(fixture("model.weights.h5"), "model.weights.h5");
  EXPECT_EQ(f.sig("layers/conv2d/vars/0"), (Sig{DType::f32, {3, 3, 1, 2}}));
  EXPECT_EQ(f.sig("layers/dense/vars/0"), (Sig{DType::bf16, {32, 2}}));
  EXPECT_EQ(f.datasets("layers/batch_normalization/vars"),
            (std::vector<std::string>{"0", "1", "2", "3"}));
  EXPECT_EQ(f.attribute("layers/dense_1/vars", "name"), "head");
  EXPECT_EQ(numbers(f.read("layers/batch_normalization/vars/0")), (std::vector<double>{1, 1}));
}

template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error";
  return Error(Code::Internal, "");
}

TEST(Hdf5Reader, RefusesByName) {
  const std::map<std::string, std::string> reasons{{"soft_link", "soft link"},
                                                   {"external_link", "external link"},
                                                   {"dense", "dense"},
                                                   {"complex", "datatype is of class"},
                                                   {"uint64", "unsigned integer type of 64 bits"},
                                                   {"string", "string"},
                                                   {"struct", "datatype is of class 6"},
                                                   {"opaque", "opaque"},
                                                   {"rank9", "rank is 9"},
                                                   {"null", "null"},
                                                   {"lzf", "filter 32000"},
                                                   {"external_storage", "another file"},
                                                   {"unwritten", "never written"},
                                                   {"fixed_array", "fixed array"}};
  for (const auto& [name, reason] : reasons) {
    const Error e = error_of([&] {
      const Hdf5File f(fixture("refused_" + name + ".h5"), name);
      EXPECT_EQ(numbers(f.read("good")), (std::vector<double>{1, 2, 3}));
      f.read("x");
    });
    EXPECT_EQ(e.code(), Code::Unimplemented) << e.what();
    EXPECT_NE(std::string(e.what()).find(reason), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("hdf5 \"" + name + "\": "), std::string::npos) << e.what();
  }
}

TEST(Hdf5Reader, ShapeBombsAllocateNothing) {
  const int64_t before = Buffer::counters().peak;
  for (const char* name : {"bomb.h5", "overflow.h5"}) {
    const Error e = error_of([&] { Hdf5File f(fixture(name)); });
    EXPECT_EQ(e.code(), Code::DataLoss) << e.what();
    EXPECT_NE(std::string(e.what()).find(": x: "), std::string::npos) << e.what();
  }
  EXPECT_LT(Buffer::counters().peak - before, 1 << 20);
}

TEST(Hdf5Reader, WhatIsNotThere) {
  const Hdf5File f(fixture("types.h5"));
  EXPECT_EQ(error_of([&] { f.read("little/x"); }).code(), Code::NotFound);
  EXPECT_EQ(error_of([&] { f.read("little"); }).code(), Code::NotFound);
  EXPECT_EQ(error_of([&] { f.groups("bool"); }).code(), Code::NotFound);
  EXPECT_EQ(error_of([&] { f.attribute("x", "a"); }).code(), Code::NotFound);
}

/// Reads all that there is; Errors are what is expected of damaged files.
void devour(std::string bytes) {
  try {
    const Hdf5File f(std::move(bytes));
    for (const auto& name : all_datasets(f)) {
      try {
        f.read(name);
      } catch (const Error&) {
      }
      try {
        f.attribute(name, "dtype");
      } catch (const Error&) {
      }
    }
  } catch (const Error&) {
  }
}

std::string small_file() {
  Hdf5Writer w;
  Array a = make_array({DType::f32, {2, 2}});
  std::memset(a.data->data(), 0, 16);
  w.dataset("a/0", a);
  w.attribute("a", "name", "a");
  return w.finish();
}

TEST(Hdf5Reader, EveryTruncationIsDataLoss) {
  for (const std::string& good : {small_file(), fixture("refused_fixed_array.h5")}) {
    for (size_t n = 0; n < good.size(); ++n) {
      ASSERT_EQ(error_of([&] { Hdf5File f(good.substr(0, n)); }).code(), Code::DataLoss) << n;
    }
  }
}

TEST(Hdf5Reader, EveryByteFlipped) {
  for (const std::string& good : {small_file(), fixture("latest.h5"), fixture("bomb.h5")}) {
    for (size_t i = 0; i < good.size(); ++i) {
      for (const int flip : {1, 0x80, 0xff}) {
        std::string bytes = good;
        bytes[i] = char(bytes[i] ^ flip);
        devour(std::move(bytes));
      }
    }
  }
}

// Every eighth place of larger files gets what an address or a size must not be.
TEST(Hdf5Reader, EveryWordReplaced) {
  for (const char* name : {"chunked.h5", "model.weights.h5", "types.h5"}) {
    const std::string good = fixture(name);
    for (size_t i = 0; i + 8 <= good.size(); i += 8) {
      uint64_t word;
      std::memcpy(&word, good.data() + i, 8);
      if (word == 0) continue;
      for (const uint64_t value : {~uint64_t(0), uint64_t(0), uint64_t(96), word ^ 8, word << 32}) {
        std::string bytes = good;
        std::memcpy(bytes.data() + i, &value, 8);
        devour(std::move(bytes));
      }
    }
  }
}

TEST(Hdf5Reader, CyclesAndOverlapsEnd) {
  const std::string good = small_file();
  // The address of group "a" in the root's symbol table is replaced by the root's.
  const size_t table = good.find("SNOD");
  ASSERT_NE(table, good.npos);
  std::string bytes = good;
  std::memcpy(bytes.data() + table + 16, good.data() + 64, 8);
  const Error e = error_of([&] { Hdf5File f(bytes); });
  EXPECT_EQ(e.code(), Code::DataLoss);
  EXPECT_NE(std::string(e.what()).find("second time"), std::string::npos) << e.what();
}

}  // namespace
}  // namespace evenflow::format
