// SPDX-License-Identifier: Apache-2.0
// The manual of operations, written from their declarations.
#pragma once
#include <map>
#include <string>

#include "evenflow/graph/op.h"

namespace evenflow {

/// "conv2d(x, kernel, *, strides: ints = [1, 1], padding: string = "valid")", as in Python.
std::string python_signature(const OpDef& op);
/// One page of Markdown: signature, texts, inputs, outputs, attributes, traits, example cases, and
/// the kernels of this build unless they are left out.
std::string manual_page(const OpDef& op, bool with_kernels = true);
/// All pages, the same for every build, by file name: "conv2d.md" ..., and "index.md".
std::map<std::string, std::string> manual_pages();

}  // namespace evenflow
