// What the stand-in driver (driver.cpp) and a kernel module compiled for the host (cuda_host.h) tell each other.
//
// A module exports, for every kernel NAME: `NAME__host` (a Launcher), `NAME__args_size` (size_t) and `NAME_shape`
// (the LaunchShape of common/cuda.h); and once: `scx_host_abi` (kAbi) and `scx_host_one_worker` (int: its static shared
// memory exists once, so that only one worker may run its blocks).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <atomic>

namespace scx_host {

constexpr int kAbi = 2;                    // changes with the structs below
constexpr unsigned kMaxThreads = 1024;     // threads a block
constexpr size_t kMaxShared = 232448;      // dynamic shared memory a block may opt in to
constexpr size_t kSharedSlack = 4096;      // bytes behind it, where an overrun is noticed
constexpr size_t kThreadBytes = 256;       // at most this much bookkeeping a thread (cuda_host.h asserts it)
constexpr size_t kStackBytes = 128 << 10;  // a thread's stack; a guard page lies below it

// Memory of one operating-system thread that runs blocks. The driver owns it.
struct Worker {
  unsigned char* stacks;   // kMaxThreads stacks, `stack_stride` apart; each begins with its guard page
  size_t stack_stride;     // guard page and stack
  size_t guard;            // bytes of the guard page
  unsigned char* shared;   // kMaxShared + kSharedSlack bytes, 128-byte aligned
  unsigned char* threads;  // kMaxThreads * kThreadBytes bytes
  // While it runs a block: ends the launch because its running thread did what stops a CPU. Does not return.
  void* block;
  void (*fault)(void* block, int result, const char* what);
};

// One launch. Several workers run it at once, each taking the next block until there is none.
struct Launch {
  unsigned grid[3];
  unsigned block[3];
  size_t shared_bytes;
  const void* args;                  // the kernel's one argument
  uint64_t seed;                     // schedule of the threads; 0: in turn
  std::atomic<uint64_t> next{0};     // the next block to run
  std::atomic<int> failed{0};        // a CUresult, set by whoever writes `message`
  char message[4096] = {0};
};

constexpr int kIllegalAddress = 700, kLaunchFailed = 719;  // what `failed` can be

using Launcher = void (*)(Launch*, Worker*);

}  // namespace scx_host
