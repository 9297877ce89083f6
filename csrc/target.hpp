// Intrinsics, for the kernels that use them.
#pragma once
#include "simd.hpp"

#if defined(__x86_64__)
#if !defined(__clang__)
// GCC 12 takes the undefined registers of its own header, which a full mask hides, for mistakes of ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#define PAIREC_TARGET_VBMI \
  __attribute__((target("avx512vbmi,avx512vbmi2,avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx512bitalg,avx512vpopcntdq,"  \
                        "avx2,fma,bmi,bmi2,popcnt,lzcnt")))
#endif
