// SPDX-License-Identifier: Apache-2.0
// EVENFLOW_UNROLL before a loop of a few, fixed steps over an array of vectors: the array then lies
// in registers.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#define EVENFLOW_UNROLL _Pragma("GCC unroll 16")
#else
#define EVENFLOW_UNROLL
#endif
