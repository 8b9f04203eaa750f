// What a kernel source may use, on a device and on a host.
//
// The same source is compiled three ways: by nvcc (fatbins, build.rs), by NVRTC (at run time, where there was no nvcc),
// and by a C++ compiler against `host/cuda_host.h` (`SCX_HOST`), which runs it on the CPU: blocks, threads, barriers,
// warp collectives, shared memory. `abi.h` includes this header; what else a kernel file may include is rule 1 of
// kernels/README.md.
//
// A kernel is defined with SCX_KERNEL. It takes one argument, a plain struct of `abi.h`, and carries its own launch
// shape as a constant symbol `NAME_shape`, which the engine reads from the module: whoever replaces a kernel chooses
// threads, tile and dynamic shared memory freely.
#pragma once

#if defined(SCX_HOST)
#include "../host/cuda_host.h"
#else
#include <cuda_bf16.h>
#if defined(__CUDACC_RTC__)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
#else
#include <stddef.h>
#include <stdint.h>
#endif
// The block's dynamic shared memory, 128-byte aligned.
namespace scx {
__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char scx_dynamic_shared[];
  return scx_dynamic_shared;
}
}  // namespace scx
#define SCX_HOST_EXPORT(name, Args)
#endif

namespace scx {
constexpr uint32_t kAllLanes = 0xffffffffu;  // of warp collectives: the whole warp calls them
}  // namespace scx

// How a kernel wants to be launched; `NAME_shape` in its module.
struct LaunchShape {
  uint32_t threads;       // threads a block (one-dimensional)
  uint32_t shared_bytes;  // dynamic shared memory a block
  uint32_t tile_x;        // items of the op's first work dimension a block takes (see abi.h)
  uint32_t tile_y;        // items of its second work dimension
};

// SCX_KERNEL(name, Args, threads, shared_bytes, tile_x, tile_y) { body using `a`, a const Args& }
#define SCX_KERNEL(name, Args, threads, shared_bytes, tile_x, tile_y)                             \
  extern "C" {                                                                                    \
  extern __constant__ LaunchShape name##_shape;                                                   \
  __constant__ LaunchShape name##_shape = {(threads), (shared_bytes), (tile_x), (tile_y)};        \
  __global__ void __launch_bounds__(threads) name(const __grid_constant__ Args a);                \
  }                                                                                               \
  SCX_HOST_EXPORT(name, Args)                                                                     \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Args a)
