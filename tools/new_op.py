#!/usr/bin/env python3
"""Writes the two files of a new operation: make new-op NAME=softplus2

The build finds them by itself, and the derived tests find the declaration; they fail until its reference is written.
"""
import pathlib
import re
import sys

OPS = pathlib.Path(__file__).resolve().parent.parent / "evenflow" / "ops"

HEADER = """\
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "evenflow/graph/op.h"

namespace evenflow {

struct @Name@Attrs {
  double alpha = 1;
  static void fields(auto& self, auto&& field) {
    field("alpha", self.alpha, "TODO: what it means");
  }
};

/// TODO: what it returns, shapes in brackets, edge cases, what it refuses.
Tensor @name@(In x, @Name@Attrs attrs = {});

}  // namespace evenflow
"""

SOURCE = """\
// SPDX-License-Identifier: Apache-2.0
// TODO: the formula, and the paper or book that it comes from.
#include "evenflow/ops/@name@.h"

namespace evenflow {

OP(@name@, @Name@Attrs) {
  return {
      .summary = "TODO: one line for the manual",
      .inputs = {{"x", floating, "[...]"}},
      .outputs = {{"y", "like x"}},
      .shape = same_as_first,
      // A composition of other operations. Its gradient follows, unless .gradient is written.
      .reference = [](const Tensors&, const @Name@Attrs&) -> Tensors {
        fail(Code::Unimplemented, {"@name@: its reference is still to be written"});
      },
      .traits = {.pointwise = true},  // out[i] needs in[i] only; take it out if that is not so
      .cases = {{"vector", {{3}}},
                {"matrix", {{4, 5}}, {.alpha = 0.5}},
                {"large", {{256, 1024}}, {}, {.bench = true}}},
  };
}

Tensor @name@(In x, @Name@Attrs attrs) { return call(@name@_op(), {x}, attrs)[0]; }

}  // namespace evenflow
"""


def main(arguments):
    if len(arguments) != 1 or not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", arguments[0]):
        sys.exit("usage: make new-op NAME=snake_case_name")
    name = arguments[0]
    declared = re.compile(rf"^OP\({name}\b", re.MULTILINE)
    for path in sorted(OPS.glob("*.cc")):
        if path.stem == name or declared.search(path.read_text()):
            sys.exit(f"new_op: {name} is there already: {path.relative_to(OPS.parent.parent)}")
    camel = "".join(part.capitalize() for part in name.split("_"))
    OPS.mkdir(exist_ok=True)
    for suffix, text in ((".h", HEADER), (".cc", SOURCE)):
        path = OPS / (name + suffix)
        path.write_text(text.replace("@name@", name).replace("@Name@", camel))
        print("wrote", path.relative_to(OPS.parent.parent))
    print(f"now write the reference, then: make docs test    (only this: build/bin/harness_ops_test --gtest_filter='*/{name}')")


if __name__ == "__main__":
    main(sys.argv[1:])
