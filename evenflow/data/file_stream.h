// SPDX-License-Identifier: Apache-2.0
// A stream of the elements of files, one file after the other. For the sources of this room.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "evenflow/data/files.h"
#include "evenflow/data/stage.h"

namespace evenflow::data {

/// Opens the elements of a file.
using OpenFile = std::function<FeedPtr(const std::string& path)>;

/// Shards are whole files where there are enough of them, else every n-th element.
std::shared_ptr<const Stream> file_stream(std::string name, Schema schema,
                                          std::vector<std::string> paths, OpenFile open);

/// Counts an Error of a damaged record and says it in the log; where nobody counts, throws it.
void skip_or_throw(const Skipped& skipped, const Error& error);

}  // namespace evenflow::data
