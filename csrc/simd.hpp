// Which instructions this machine has, and how the kernels are told.
//
// A kernel that gains from wider vectors is compiled once per level (function attribute `target`), and a table of
// function pointers is filled when its module is imported. All levels give the same bits.
// PAIREC_ISA=baseline|avx2|avx512bw|avx512vbmi forces a level; a level the machine lacks is refused.
#pragma once
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace pairec {

enum class Isa : int { baseline = 0, avx2 = 1, avx512bw = 2, avx512vbmi = 3 };

inline constexpr const char* isa_names[] = {"baseline", "avx2", "avx512bw", "avx512vbmi"};

// The best level of this machine.
inline Isa isa_best() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  if (!avx2) return Isa::baseline;
  const bool bw = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!bw) return Isa::avx2;
  const bool vbmi = __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
                    __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("avx512vpopcntdq") &&
                      __builtin_cpu_supports("avx512vnni");
  return vbmi ? Isa::avx512vbmi : Isa::avx512bw;
#else
  return Isa::baseline;
#endif
}

// The level to use. Throws std::invalid_argument for a PAIREC_ISA that is unknown or that the machine lacks.
inline Isa isa_active() {
  const char* wanted = std::getenv("PAIREC_ISA");
  const Isa best = isa_best();
  if (wanted == nullptr || *wanted == '\0') return best;
  for (int level = 0; level < 4; ++level) {
    if (std::strcmp(wanted, isa_names[level]) != 0) continue;
    if (level > static_cast<int>(best))
      throw std::invalid_argument(std::string("PAIREC_ISA=") + wanted + ": this machine has " +
                                  isa_names[static_cast<int>(best)] + " at best");
    return static_cast<Isa>(level);
  }
  throw std::invalid_argument(std::string("PAIREC_ISA=") + wanted +
                              ": unknown; use baseline, avx2, avx512bw or avx512vbmi");
}

}  // namespace pairec

#if defined(__x86_64__)
#define PAIREC_TARGET_AVX2 __attribute__((target("avx2,fma,bmi,bmi2")))
#define PAIREC_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2")))
#endif
