// SPDX-License-Identifier: Apache-2.0
// What the processor has, and what is used of it, where the choice between kernels depends on it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evenflow::cpu {

/// Instruction sets that EVENFLOW_ISA may name, each with all that is below it.
enum class Isa {
  neon,
  sse4,    ///< SSE4.2, with AES
  avx2,    ///< with FMA, BMI2 and F16C
  avx512,  ///< F, BW, CD, DQ and VL; neither its bf16 instructions nor AMX
};
std::string_view str(Isa isa);

/// The best that kernels may use, our own and a library's: EVENFLOW_ISA as it was when the library
/// was loaded. Empty: all that the machine has. Throws InvalidArgument for an unknown name,
/// Unimplemented for a set that this machine has not. The default device and the number of threads
/// ask first, and so does all that computes.
std::optional<Isa> isa_limit();

/// "avx512", or "avx2 (EVENFLOW_ISA)": what our own kernels use. Errors as isa_limit().
std::string isa_in_use();

/// Whether matrix tiles of bf16 (AMX) are there and the system saves their state: then a library's
/// bf16 products are several times as fast as any in f32. Not where EVENFLOW_ISA sets a limit.
bool has_amx_bf16();

namespace detail {
/// The set of that name among Highway's targets; errors as isa_limit().
Isa isa_named(std::string_view name, int64_t targets);
}  // namespace detail

}  // namespace evenflow::cpu
