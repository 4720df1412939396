// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/image.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>  // jpeglib.h wants FILE
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include "evenflow/core/parallel.h"
#include "evenflow/format/resize.h"

namespace evenflow::format {
namespace {

constexpr int kMaxScans = 200;                   // of a progressive JPEG
constexpr int64_t kMaxChunk = int64_t(8) << 20;  // of a PNG that is no picture data

bool is_jpeg(std::string_view b) { return b.starts_with("\xff\xd8\xff"); }
bool is_png(std::string_view b) { return b.starts_with("\x89PNG\r\n\x1a\n"); }

/// A picture that is being decoded: its final size, then its rows from the top.
class Decoder {
 public:
  Decoder(std::string_view bytes, std::string_view name, const ImageOptions& options)
      : bytes_(bytes), name_(name), options_(options) {}
  virtual ~Decoder() = default;
  Decoder(const Decoder&) = delete;

  virtual ImageInfo info() = 0;
  /// Begins to decode; the channels are those of the rows.
  virtual ImageInfo start() = 0;
  virtual void rows(FunctionRef<void(const uint8_t*)> f) = 0;

 protected:
  [[noreturn]] void bad(std::string_view kind, std::string_view what) const {
    fail(Code::DataLoss, {kind, " \"", name_, "\": ", what});
  }
  void check(const ImageInfo& i) const {
    if (i.height < 1 || i.width < 1) bad(str(i.kind), "the picture is empty");
    if (i.width > options_.max_pixels / i.height)
      fail(Code::ResourceExhausted,
           {str(i.kind), " \"", name_, "\": the picture has ", i.height, " x ", i.width,
            " pixels, expected at most ", options_.max_pixels, " in all"});
  }

  std::string_view bytes_, name_;
  const ImageOptions& options_;
};

// Both libraries leave an error by a jump, over their own frames only: calls into them lie in small
// functions (guarded) whose variables need no destructor.

class Jpeg final : public Decoder {
 public:
  using Decoder::Decoder;
  ~Jpeg() override {
    if (created_) jpeg_destroy_decompress(&jpeg_);
  }

  ImageInfo info() override {
    if (!guarded([](Jpeg& j) { j.read_header(); })) bad("jpeg", message_);
    ImageInfo i{ImageKind::jpeg, jpeg_.image_height, jpeg_.image_width, jpeg_.num_components};
    check(i);
    return i;
  }
  ImageInfo start() override {
    ImageInfo i = info();
    const bool cmyk = jpeg_.jpeg_color_space == JCS_CMYK || jpeg_.jpeg_color_space == JCS_YCCK;
    int channels = options_.channels;
    if (channels == 0) channels = jpeg_.num_components == 1 ? 1 : 3;
    if ((channels != 1 && channels != 3) || (cmyk && channels == 1))
      fail({"jpeg \"", name_, "\": channels is ", channels, ", expected ",
            cmyk ? "3 (it is CMYK)" : "1 or 3 (it has no alpha)"});
    jpeg_.out_color_space = cmyk ? JCS_CMYK : channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_.dct_method = options_.accurate ? JDCT_ISLOW : JDCT_IFAST;
    if (!guarded([](Jpeg& j) { jpeg_start_decompress(&j.jpeg_); })) bad("jpeg", message_);
    row_.resize(size_t(jpeg_.output_width) * size_t(jpeg_.output_components));
    i.channels = channels;
    return i;
  }
  void rows(FunctionRef<void(const uint8_t*)> f) override {
    while (jpeg_.output_scanline < jpeg_.output_height) {
      if (!guarded([](Jpeg& j) {
            JSAMPROW row = j.row_.data();
            jpeg_read_scanlines(&j.jpeg_, &row, 1);
          }))
        bad("jpeg", concat({message_, " (row ", int64_t(jpeg_.output_scanline), ")"}));
      if (jpeg_.out_color_space == JCS_CMYK) to_rgb();
      f(row_.data());
    }
  }

 private:
  struct Errors : jpeg_error_mgr {
    jmp_buf jump;
    Jpeg* jpeg;
  };

  void read_header() {
    jpeg_create_decompress(&jpeg_);
    created_ = true;
    jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size());
    progress_.progress_monitor = [](j_common_ptr c) {
      auto* jpeg = static_cast<Jpeg*>(c->client_data);
      if (jpeg->jpeg_.input_scan_number > kMaxScans) jpeg->leave("too many scans");
    };
    jpeg_.client_data = this;
    jpeg_.progress = &progress_;
    jpeg_read_header(&jpeg_, TRUE);
  }
  [[noreturn]] void leave(const char* message) {
    std::snprintf(message_, sizeof message_, "%s", message);
    std::longjmp(errors_.jump, 1);
  }
  bool guarded(void (*f)(Jpeg&)) {
    if (!created_) {
      jpeg_.err = jpeg_std_error(&errors_);
      errors_.jpeg = this;
      errors_.error_exit = [](j_common_ptr c) {
        auto* errors = static_cast<Errors*>(c->err);
        errors->format_message(c, errors->jpeg->message_);
        std::longjmp(errors->jump, 1);
      };
      errors_.output_message = [](j_common_ptr) {};
      // What libjpeg papers over is damage, but for a few harmless oddities.
      errors_.emit_message = [](j_common_ptr c, int level) {
        const int code = c->err->msg_code;
        if (level >= 0 || code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR ||
            code == JWRN_ADOBE_XFORM)
          return;
        c->err->error_exit(c);
      };
    }
    if (setjmp(errors_.jump)) return false;
    f(*this);
    return true;
  }
  void to_rgb() {
    for (size_t i = 0; i < jpeg_.output_width; ++i) {
      const uint8_t* p = row_.data() + 4 * i;
      uint8_t rgb[3];
      for (int c = 0; c < 3; ++c)  // Adobe writes them inverted
        rgb[c] =
            uint8_t(jpeg_.saw_Adobe_marker ? p[3] * p[c] / 255 : (255 - p[3]) * (255 - p[c]) / 255);
      std::memcpy(row_.data() + 3 * i, rgb, 3);
    }
  }

  jpeg_decompress_struct jpeg_{};
  Errors errors_{};
  jpeg_progress_mgr progress_{};
  bool created_ = false;
  char message_[JMSG_LENGTH_MAX] = "";
  std::vector<uint8_t> row_;
};

class Png final : public Decoder {
 public:
  using Decoder::Decoder;
  ~Png() override {
    if (png_) png_destroy_read_struct(&png_, &info_, nullptr);
  }

  ImageInfo info() override {
    png_ = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, this,
        [](png_structp p, png_const_charp what) {
          auto* png = static_cast<Png*>(png_get_error_ptr(p));
          std::snprintf(png->message_, sizeof png->message_, "%s", what);
          png_longjmp(p, 1);
        },
        [](png_structp, png_const_charp) {});
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    if (!info_) fail(Code::ResourceExhausted, {"png \"", name_, "\": no memory to decode it"});
    if (!guarded([](Png& p) {
          png_set_read_fn(p.png_, &p, [](png_structp s, png_bytep to, size_t n) {
            auto* png = static_cast<Png*>(png_get_io_ptr(s));
            if (n > png->bytes_.size() - png->at_) png_error(s, "the file ends too early");
            std::memcpy(to, png->bytes_.data() + png->at_, n);
            png->at_ += n;
          });
          png_set_user_limits(p.png_, 0x7fffffff, 0x7fffffff);  // our own check is on the area
          png_set_chunk_malloc_max(p.png_, png_alloc_size_t(kMaxChunk));
          png_set_chunk_cache_max(p.png_, 100);
          png_read_info(p.png_, p.info_);
        }))
      bad("png", message_);
    const int color = png_get_color_type(png_, info_);
    ImageInfo i{ImageKind::png, png_get_image_height(png_, info_), png_get_image_width(png_, info_),
                png_get_channels(png_, info_)};
    if (color == PNG_COLOR_TYPE_PALETTE)
      i.channels = png_get_valid(png_, info_, PNG_INFO_tRNS) ? 4 : 3;
    check(i);
    return i;
  }
  ImageInfo start() override {
    ImageInfo i = info();
    channels_ = options_.channels ? options_.channels : i.channels;
    if (channels_ < 1 || channels_ > 4)
      fail({"png \"", name_, "\": channels is ", channels_, ", expected 0 to 4"});
    height_ = size_t(i.height);
    if (!guarded([](Png& p) { p.convert(); })) bad("png", message_);
    row_bytes_ = png_get_rowbytes(png_, info_);
    if (row_bytes_ != size_t(i.width) * size_t(channels_))
      fail(Code::Internal, {"png \"", name_, "\": a row has ", row_bytes_, " bytes"});
    i.channels = channels_;
    return i;
  }
  void rows(FunctionRef<void(const uint8_t*)> f) override {
    const bool whole = passes_ > 1;  // interlaced: no row is complete before the last pass
    pixels_.resize(row_bytes_ * (whole ? height_ : 1));
    if (whole) {
      if (!guarded([](Png& p) {
            for (int pass = 0; pass < p.passes_; ++pass)
              for (size_t y = 0; y < p.height_; ++y)
                png_read_row(p.png_, p.pixels_.data() + y * p.row_bytes_, nullptr);
            png_read_end(p.png_, nullptr);
          }))
        bad("png", message_);
      for (size_t y = 0; y < height_; ++y) f(pixels_.data() + y * row_bytes_);
      return;
    }
    for (size_t y = 0; y < height_; ++y) {
      if (!guarded([](Png& p) { png_read_row(p.png_, p.pixels_.data(), nullptr); }))
        bad("png", concat({message_, " (row ", y, ")"}));
      f(pixels_.data());
    }
    if (!guarded([](Png& p) { png_read_end(p.png_, nullptr); })) bad("png", message_);
  }

 private:
  bool guarded(void (*f)(Png&)) {
    if (setjmp(png_jmpbuf(png_))) return false;
    f(*this);
    return true;
  }
  void convert() {
    const int color = png_get_color_type(png_, info_);
    const bool grey = !(color & PNG_COLOR_MASK_COLOR), want_grey = channels_ < 3;
    const bool transparent = png_get_valid(png_, info_, PNG_INFO_tRNS);
    const bool alpha = color & PNG_COLOR_MASK_ALPHA, want_alpha = channels_ % 2 == 0;
    if (png_get_bit_depth(png_, info_) == 16) png_set_strip_16(png_);
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
    if (grey) png_set_expand_gray_1_2_4_to_8(png_);
    if (want_alpha) {
      if (transparent)
        png_set_tRNS_to_alpha(png_);
      else if (!alpha)
        png_set_add_alpha(png_, 255, PNG_FILLER_AFTER);
    } else if (alpha || transparent) {
      png_set_strip_alpha(png_);
    }
    if (want_grey && !grey) png_set_rgb_to_gray(png_, 1, 0.299, 0.587);
    if (!want_grey && grey) png_set_gray_to_rgb(png_);
    passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
  }

  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  size_t at_ = 0, row_bytes_ = 0, height_ = 0;
  int channels_ = 0, passes_ = 1;
  char message_[200] = "";
  std::vector<uint8_t> pixels_;
};

std::unique_ptr<Decoder> decoder_of(std::string_view bytes, std::string_view name,
                                    const ImageOptions& options) {
  if (is_jpeg(bytes)) return std::make_unique<Jpeg>(bytes, name, options);
  if (is_png(bytes)) return std::make_unique<Png>(bytes, name, options);
  fail(Code::DataLoss, {"image \"", name, "\": the bytes are neither JPEG nor PNG"});
}

}  // namespace

std::string_view str(ImageKind kind) { return kind == ImageKind::jpeg ? "jpeg" : "png"; }

ImageInfo image_info(std::string_view bytes, std::string_view name, const ImageOptions& options) {
  return decoder_of(bytes, name, options)->info();
}

Array decode_image(std::string_view bytes, std::string_view name, const ImageOptions& options) {
  const auto decoder = decoder_of(bytes, name, options);
  const ImageInfo info = decoder->start();
  Array image = make_array({DType::u8, {info.height, info.width, info.channels}});
  auto* to = static_cast<uint8_t*>(image.data->data());
  const size_t row = size_t(info.width * info.channels);
  decoder->rows([&](const uint8_t* pixels) { to = std::copy_n(pixels, row, to); });
  return image;
}

void decode_image_resized(std::string_view bytes, std::string_view name,
                          const ImageOptions& options, int64_t height, int64_t width, float* to) {
  if (options.channels < 1)
    fail({"image \"", name, "\": channels is ", options.channels, ", expected 1 to 4"});
  const auto decoder = decoder_of(bytes, name, options);
  const ImageInfo info = decoder->start();
  BilinearRows resize(info.height, info.width, options.channels, height, width, to);
  decoder->rows([&](const uint8_t* pixels) { resize.push(pixels); });
}

std::string png_bytes(const Array& picture) {
  const Shape& shape = picture.sig.shape;
  constexpr png_uint_32 kFormats[] = {PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB,
                                      PNG_FORMAT_RGBA};
  if (picture.sig.dtype != DType::u8 || shape.rank() != 3 || shape[0] < 1 || shape[1] < 1 ||
      shape[0] > PNG_USER_HEIGHT_MAX || shape[1] > PNG_USER_WIDTH_MAX || shape[2] < 1 ||
      shape[2] > 4)
    fail({"png: picture is ", str(picture.sig),
          ", expected u8 [height,width,channels] with 1 to 4 channels"});
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = png_uint_32(shape[0]), image.width = png_uint_32(shape[1]);
  image.format = kFormats[shape[2] - 1];
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string out(bytes, '\0');
  if (!png_image_write_to_memory(&image, out.data(), &bytes, 0, picture.data->data(), 0, nullptr))
    fail(Code::Internal, {"png: ", image.message});
  out.resize(bytes);
  return out;
}

}  // namespace evenflow::format
