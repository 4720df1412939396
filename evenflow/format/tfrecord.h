// SPDX-License-Identifier: Apache-2.0
// TFRecord files: length, masked CRC-32C of the length, data, masked CRC-32C of the data; all
// little-endian. TensorFlow's core/lib/io/record_writer.h has the format.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/format/file.h"
#include "evenflow/format/gzip.h"
#include "evenflow/format/input.h"

namespace evenflow::format {

/// What a record may claim to be unless told otherwise: 256 MiB.
inline constexpr int64_t kMaxRecordBytes = int64_t(256) << 20;

/// The records of a stream (a plain or gzip file) from the front to the back.
class TfRecordReader {
 public:
  explicit TfRecordReader(InputStream stream, int64_t max_record_bytes = kMaxRecordBytes)
      : stream_(std::move(stream)), max_(max_record_bytes) {}

  /// The next record, valid until the next call; false at the end. Throws DataLoss, naming file,
  /// record and byte: the checksum of the data is wrong (then the next call goes on behind it), the
  /// checksum of the length is wrong or the file ends within a record (nothing can be read behind).
  /// Throws ResourceExhausted for a record above the limit.
  bool next(std::string_view* record);

  int64_t record() const { return record_; }                    ///< number of the next record
  int64_t offset() const { return stream_.offset() + taken_; }  ///< and its offset
  /// Goes to a record by what record() and offset() said.
  void seek(int64_t record, int64_t offset);
  const std::string& name() const { return stream_.name(); }

 private:
  InputStream stream_;
  int64_t max_, record_ = 0;
  int64_t taken_ = 0;  // bytes of the record that was given out
};

/// The records of a plain file by number, after one look over all their lengths. It keeps 16 bytes
/// for each 4 KiB of the file or each record, whichever are fewer. Reading may go on in several
/// threads.
class TfRecordFile {
 public:
  /// Throws what InputFile and TfRecordReader throw; `max_records` ends the look early.
  explicit TfRecordFile(std::string path, int64_t max_record_bytes = kMaxRecordBytes);

  int64_t size() const { return size_; }
  const std::string& path() const { return file_.path(); }
  /// Calls f(number, offset, bytes) for records first .. first+n-1 in order.
  void read(int64_t first, int64_t n,
            FunctionRef<void(int64_t record, int64_t offset, std::string_view bytes)> f) const;

 private:
  struct Mark {
    int64_t record, offset;
  };
  InputFile file_;
  int64_t max_, size_ = 0;
  std::vector<Mark> marks_;
};

/// Appends records to a file that is being written.
class TfRecordWriter {
 public:
  void write(std::string_view record);

 private:
  friend void write_tfrecord(const std::string&, FunctionRef<void(TfRecordWriter&)>, bool);
  TfRecordWriter(FileWriter& out, GzipWriter* gzip) : out_(out), gzip_(gzip) {}
  void put(std::string_view bytes) { gzip_ ? gzip_->append(bytes) : out_.append(bytes); }

  FileWriter& out_;
  GzipWriter* gzip_;
};

/// Writes a file of what `write` writes, as write_file_atomically does.
void write_tfrecord(const std::string& path, FunctionRef<void(TfRecordWriter&)> write,
                    bool gzip = false);

}  // namespace evenflow::format
