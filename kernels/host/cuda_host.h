// CUDA C++ on a CPU: the kernel sources, compiled by a C++ compiler (-DSCX_HOST), run here.
//
// A block runs on one operating-system thread; its CUDA threads are fibers that change places only where CUDA lets
// threads wait for each other: barriers and warp collectives. A thread that never waits runs like a function call. The
// order in which ready threads run is fixed (seed 0: in turn) or drawn from a seed, so that a forgotten barrier shows
// up as a wrong result under some seed. Shared memory and registers of inactive lanes start as 0xFF, which is NaN.
// What CUDA leaves undefined is an error here where that can be seen: a barrier that not all live threads reach, a warp
// collective in which lanes disagree, a lane missing from its own mask, a misaligned asynchronous copy, a write behind
// the dynamic shared memory. An error ends the launch, not the process; the driver reports it (launch.h).
//
// Not modelled: time, memory ordering between blocks, clusters, TMA, spinning on memory.
#pragma once

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <type_traits>

#include <link.h>

#include "launch.h"

#if defined(__SANITIZE_ADDRESS__)
#define SCX_HOST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SCX_HOST_ASAN 1
#endif
#endif
#if defined(SCX_HOST_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) && !defined(SCX_HOST_UCONTEXT)
#define SCX_HOST_UCONTEXT 1
#endif
#if defined(SCX_HOST_UCONTEXT)
#include <ucontext.h>
#endif

// ---- words of the language ------------------------------------------------------------------------------------------

#define SCX_HOST_EXPORTED __attribute__((visibility("default")))
#define __global__
#define __device__
#define __host__
#define __constant__ SCX_HOST_EXPORTED
#define __managed__
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __forceinline__ inline __attribute__((always_inline))
// Static shared memory: one copy a worker. AddressSanitizer puts red zones around plain statics only, so there is one
// copy in all then, and one worker.
#if defined(SCX_HOST_ASAN)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

#define SCX_HOST_VECTOR(T, name, align)                                                              \
  struct name##1 { T x; };                                                                           \
  struct alignas(2 * align) name##2 { T x, y; };                                                     \
  struct name##3 { T x, y, z; };                                                                     \
  struct alignas(4 * align > 16 ? 16 : 4 * align) name##4 { T x, y, z, w; };                         \
  static inline name##1 make_##name##1(T x) { return {x}; }                                          \
  static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                  \
  static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                          \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SCX_HOST_VECTOR(signed char, char, 1)
SCX_HOST_VECTOR(unsigned char, uchar, 1)
SCX_HOST_VECTOR(short, short, 2)
SCX_HOST_VECTOR(unsigned short, ushort, 2)
SCX_HOST_VECTOR(int, int, 4)
SCX_HOST_VECTOR(unsigned, uint, 4)
SCX_HOST_VECTOR(float, float, 4)
SCX_HOST_VECTOR(double, double, 8)
SCX_HOST_VECTOR(long long, longlong, 8)
SCX_HOST_VECTOR(unsigned long long, ulonglong, 8)
#undef SCX_HOST_VECTOR

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

static constexpr int warpSize = 32;

// ---- fibers, barriers, warp collectives -----------------------------------------------------------------------------

namespace scx_host {

#define SCX_HOST_NOINLINE __attribute__((noinline))

// Where in the source a thread waits, for messages, and to tell one barrier from another.
struct Site {
  const char* what;
  const char* file;
  int line;
};
#define SCX_HOST_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()

// ---- changing stacks

// A suspended flow of control.
struct Context {
#if defined(SCX_HOST_UCONTEXT)
  ucontext_t* saved;
#else
  void* saved;  // its stack pointer
#endif
#if defined(SCX_HOST_ASAN)
  void* fake_stack;
  const void* bottom;
  size_t bytes;
#endif
};

#if !defined(SCX_HOST_UCONTEXT)
// Pushes what a function must preserve, stores the stack pointer in *save, and goes on where `restore` was stored.
__attribute__((naked, noinline)) static void change_stack(void** /*save*/, void* /*restore*/) {
  __asm__(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#endif

// Leaves `from` (for good if `last`) and resumes `to`.
static inline void switch_context(Context& from, Context& to, bool last = false) {
#if defined(SCX_HOST_ASAN)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.bottom, to.bytes);
#endif
  (void)last;
#if defined(SCX_HOST_UCONTEXT)
  swapcontext(from.saved, to.saved);
#else
  change_stack(&from.saved, to.saved);
#endif
#if defined(SCX_HOST_ASAN)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// ---- threads and blocks

enum class Status : uint8_t { kFresh, kReady, kAtBarrier, kInWarp, kDone };

// Does the work of a warp collective, once all its lanes are there: arguments[lane] for every lane set in `lanes`.
using Combine = void (*)(void** arguments, uint32_t lanes);

constexpr uint32_t kNone = ~0u;

struct Thread {
  Context context;
  uint3 index;
  Status status;
  bool any_site;         // in a collective whose lanes may come from different lines (__syncwarp)
  uint16_t stack;        // the stack it runs on, once it has started
  uint32_t mask;         // lanes of the collective it is in
  Combine combine;
  void* argument;
  Site site;             // where it waits
  uint32_t first_copy;   // its asynchronous copies that have not landed: a list in Block::copies, oldest first
  uint32_t last_copy;
  uint32_t groups;       // asynchronous groups it has committed
};
static_assert(sizeof(Thread) <= kThreadBytes, "enlarge kThreadBytes in launch.h");

struct Copy {
  void* to;
  const void* from;
  uint32_t bytes;
  bool valid;      // false: fill with zeros
  uint32_t group;  // lands when this group is waited for
  uint32_t next;
};

class Block;

// What a running thread sees of itself; all of it lives in thread-local storage, which block switches do not leave.
struct State {
  uint3 thread, block;
  uint3 block_dim, grid_dim;
  unsigned char* shared;
  Block* current;
  unsigned char* static_shared;  // this thread's copy of the module's static shared memory, `state` within it
  size_t static_bytes;
  bool looked;                   // for the two above
};
static thread_local State state = {};

using Body = void (*)(const void* args);

// The blocks that one worker runs of a launch, one after the other.
class Block {
 public:
  Block(Launch* launch, Worker* worker, Body body);
  ~Block() {
    worker_->fault = nullptr;
    free(copies_);
#if defined(SCX_HOST_UCONTEXT)
    free(ucontexts_);
#endif
  }
  Block(const Block&) = delete;

  // Runs the block of this number. False: the launch has failed.
  bool run(uint64_t number);

  // ---- called by threads
  int barrier(bool predicate, int* arrived, Site site);
  void collective(uint32_t mask, Combine combine, void* argument, Site site, bool any_site = false);
  void yield();
  void copy_async(void* to, const void* from, uint32_t bytes, bool valid, Site site);
  void commit_copies() { threads_[current_].groups++; }
  void land_copies(uint32_t pending_groups);
  unsigned lane() const { return current_ & 31; }
  [[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 2, 3)));

 private:
  void report(const char* format, va_list values);
  static void carry(Block* block);
#if defined(SCX_HOST_UCONTEXT)
  static void carry_ucontext(unsigned high, unsigned low);
#endif
  unsigned char* stack_bottom(unsigned i) const { return worker_->stacks + i * worker_->stack_stride + worker_->guard; }
  void prepare_stack(unsigned i, Context& context);
  void enter(unsigned i);
  void leave(unsigned me);
  void push(unsigned i);
  unsigned pop();
  void finish();
  void release_barrier(unsigned except);
  void complete_warp(unsigned warp, uint32_t mask, unsigned except);
  void poison_shared();
  void overrun(const char* format, ...) __attribute__((format(printf, 2, 3)));
  bool shared_intact();
  static void find_static_shared();
  void describe(char* text, size_t bytes) const;
  [[noreturn]] void give_up();
  [[noreturn]] void stuck();

  Launch* launch_;
  Worker* worker_;
  Body body_;
  Thread* threads_;
  unsigned count_;          // threads of a block
  unsigned live_ = 0;       // threads not done
  unsigned at_barrier_ = 0;
  unsigned current_ = 0;
  int votes_ = 0;           // true predicates at the barrier being filled
  int votes_result_ = 0, arrived_result_ = 0;
  Site barrier_site_ = {};
  unsigned barrier_first_ = 0;
  int result_ = kLaunchFailed;
  uint64_t random_ = 0;     // 0: threads take turns
  uint64_t order_step_ = 1, order_start_ = 0;
  Context main_ = {};
  Copy* copies_ = nullptr;
  uint32_t copies_capacity_ = 0, copies_free_ = kNone;
  uint16_t free_stacks_[kMaxThreads];
  unsigned free_stack_count_ = 0;
  uint16_t ready_[kMaxThreads];  // a ring
  unsigned ready_head_ = 0, ready_count_ = 0;
  uint32_t waiting_[32], done_[32];  // lanes, by warp
#if defined(SCX_HOST_UCONTEXT)
  ucontext_t main_ucontext_;
  ucontext_t* ucontexts_;
#endif
};

static inline Block& block() { return *state.current; }

static inline uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

inline Block::Block(Launch* launch, Worker* worker, Body body)
    : launch_(launch), worker_(worker), body_(body), threads_(reinterpret_cast<Thread*>(worker->threads)) {
  count_ = launch->block[0] * launch->block[1] * launch->block[2];
  const uint64_t blocks = uint64_t(launch->grid[0]) * launch->grid[1] * launch->grid[2];
  if (launch->seed != 0) {  // blocks in another order too: start, start + step, ... modulo their number
    order_start_ = mix(launch->seed) % blocks;
    order_step_ = mix(launch->seed + 1) % blocks;
    auto divisor = [](uint64_t a, uint64_t b) {
      while (b != 0) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
      }
      return a;
    };
    while (blocks > 1 && divisor(order_step_, blocks) != 1) order_step_ = (order_step_ + 1) % blocks;
  }
  state.grid_dim = {launch->grid[0], launch->grid[1], launch->grid[2]};
  state.block_dim = {launch->block[0], launch->block[1], launch->block[2]};
  state.shared = worker->shared;
  state.current = this;
  worker->block = this;
  worker->fault = [](void* block, int result, const char* what) {
    Block& b = *static_cast<Block*>(block);
    b.result_ = result;
    const uint3 t = state.thread;
    b.fail("thread (%u, %u, %u) %s", t.x, t.y, t.z, what);
  };
  if (!state.looked) find_static_shared();
#if defined(SCX_HOST_UCONTEXT)
  ucontexts_ = static_cast<ucontext_t*>(calloc(kMaxThreads, sizeof(ucontext_t)));
  main_.saved = &main_ucontext_;
#endif
}

// ---- shared memory

// Static shared memory is the module's thread-local storage, apart from `state`.
SCX_HOST_NOINLINE inline void Block::find_static_shared() {
#if !defined(SCX_HOST_ASAN)
  static const char anchor = 0;  // an address in this module
  struct Found {
    uintptr_t own;
    unsigned char* base;
    size_t bytes;
  } found = {reinterpret_cast<uintptr_t>(&anchor), nullptr, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        Found& found = *static_cast<Found*>(data);
        bool here = false;
        size_t tls = 0;
        for (int i = 0; i < info->dlpi_phnum; i++) {
          const auto& header = info->dlpi_phdr[i];
          const uintptr_t start = info->dlpi_addr + header.p_vaddr;
          if (header.p_type == PT_LOAD && found.own >= start && found.own < start + header.p_memsz) here = true;
          if (header.p_type == PT_TLS) tls = header.p_memsz;
        }
        if (!here) return 0;
        found.base = static_cast<unsigned char*>(info->dlpi_tls_data);
        found.bytes = tls;
        return 1;
      },
      &found);
  state.static_shared = found.base;
  state.static_bytes = found.base != nullptr && found.bytes > sizeof(State) ? found.bytes : 0;
#endif
  state.looked = true;
}

SCX_HOST_NOINLINE inline void Block::poison_shared() {
  if (state.static_bytes != 0) {
    const State kept = state;
    unsigned char* base = state.static_shared;
    __asm__ volatile("" : "+r"(base) : "r"(&state) : "memory");
    memset(base, 0xFF, kept.static_bytes);
    __asm__ volatile("" ::: "memory");
    state = kept;
  }
#if defined(SCX_HOST_ASAN)
  __asan_unpoison_memory_region(worker_->shared, kMaxShared + kSharedSlack);
  memset(worker_->shared, 0xFF, launch_->shared_bytes);
  const size_t from = (launch_->shared_bytes + 7) / 8 * 8;
  __asan_poison_memory_region(worker_->shared + from, kMaxShared + kSharedSlack - from);
#else
  memset(worker_->shared, 0xFF, launch_->shared_bytes);
  memset(worker_->shared + launch_->shared_bytes, 0xA5, 128);
#endif
}

inline bool Block::shared_intact() {
#if !defined(SCX_HOST_ASAN)
  for (int i = 0; i < 128; i++) {
    if (worker_->shared[launch_->shared_bytes + i] == 0xA5) continue;
    overrun("a thread wrote behind the %zu bytes of dynamic shared memory", launch_->shared_bytes);
    return false;
  }
#endif
  return true;
}

// ---- the scheduler

inline void Block::push(unsigned i) {
  ready_[(ready_head_ + ready_count_++) % kMaxThreads] = uint16_t(i);
}

// The next thread to run; there is one.
inline unsigned Block::pop() {
  if (random_ != 0) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    const unsigned k = (ready_head_ + unsigned((random_ >> 33) % ready_count_)) % kMaxThreads;
    const uint16_t chosen = ready_[k];
    ready_[k] = ready_[ready_head_];
    ready_[ready_head_] = chosen;
  }
  const unsigned i = ready_[ready_head_];
  ready_head_ = (ready_head_ + 1) % kMaxThreads;
  ready_count_--;
  return i;
}

inline void Block::prepare_stack(unsigned i, Context& context) {
  unsigned char* bottom = stack_bottom(i);
#if defined(SCX_HOST_ASAN)
  __asan_unpoison_memory_region(bottom, kStackBytes);  // whoever was left there when a block failed
  context.fake_stack = nullptr;
  context.bottom = bottom;
  context.bytes = kStackBytes;
#endif
#if defined(SCX_HOST_UCONTEXT)
  ucontext_t* u = &ucontexts_[i];
  getcontext(u);
  u->uc_stack.ss_sp = bottom;
  u->uc_stack.ss_size = kStackBytes;
  u->uc_link = nullptr;
  const uint64_t self = reinterpret_cast<uintptr_t>(this);
  makecontext(u, reinterpret_cast<void (*)()>(&Block::carry_ucontext), 2, unsigned(self >> 32), unsigned(self));
  context.saved = u;
#else
  // The frame that change_stack pops: six registers, the address of carry_entry, and an end for stack traces. Tops are
  // shifted by a few cache lines each, so that the stacks of a block do not all compete for the same lines.
  void** top = reinterpret_cast<void**>(bottom + kStackBytes - 128 - (i * 5 % 48) * 64);
  for (int k = 0; k < 6; k++) top[k] = nullptr;
  top[6] = reinterpret_cast<void*>(+[] { Block::carry(state.current); });
  top[7] = nullptr;
  context.saved = top;  // (top + 7 words) is 8 modulo 16, as after a call
#endif
}

inline void Block::enter(unsigned i) {
  current_ = i;
  state.thread = threads_[i].index;
}

// Thread `me` waits (or is ready but gives way): runs another until it is its turn again.
inline void Block::leave(unsigned me) {
  if (ready_count_ == 0) stuck();
  const unsigned i = pop();
  Thread& next = threads_[i];
  if (i == me) return;
  if (next.status == Status::kFresh) {
    next.stack = free_stacks_[--free_stack_count_];
    prepare_stack(next.stack, next.context);
  }
  next.status = Status::kReady;
  enter(i);
  switch_context(threads_[me].context, next.context);
}

// What a stack runs: the thread it was given, then further fresh threads, as long as one is next.
inline void Block::carry(Block* block) {
#if defined(SCX_HOST_ASAN)
  if (block->main_.bottom == nullptr) {
    __sanitizer_finish_switch_fiber(nullptr, &block->main_.bottom, &block->main_.bytes);
  } else {
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
  }
#endif
  for (;;) {
    block->body_(block->launch_->args);
    const unsigned me = block->current_;
    block->finish();
    if (block->live_ == 0) {
      block->free_stacks_[block->free_stack_count_++] = block->threads_[me].stack;
      switch_context(block->threads_[me].context, block->main_, true);
    }
    if (block->ready_count_ == 0) block->stuck();
    const unsigned i = block->pop();
    Thread& next = block->threads_[i];
    block->enter(i);
    const uint16_t stack = block->threads_[me].stack;
    if (next.status == Status::kFresh) {
      next.status = Status::kReady;
      next.stack = stack;
#if defined(SCX_HOST_ASAN)
      next.context = block->threads_[me].context;
      next.context.bottom = block->stack_bottom(stack);
      next.context.bytes = kStackBytes;
#endif
#if defined(SCX_HOST_UCONTEXT)
      next.context.saved = &block->ucontexts_[stack];
#endif
      continue;
    }
    block->free_stacks_[block->free_stack_count_++] = stack;
    switch_context(block->threads_[me].context, next.context, true);
  }
}

#if defined(SCX_HOST_UCONTEXT)
inline void Block::carry_ucontext(unsigned high, unsigned low) {
  carry(reinterpret_cast<Block*>(uintptr_t(high) << 32 | low));
}
#endif

inline bool Block::run(uint64_t number) {
  const uint64_t blocks = uint64_t(launch_->grid[0]) * launch_->grid[1] * launch_->grid[2];
  if (launch_->seed != 0) {
    number = uint64_t((static_cast<unsigned __int128>(number) * order_step_ + order_start_) % blocks);
  }
  const unsigned gx = launch_->grid[0], gy = launch_->grid[1];
  state.block = {unsigned(number % gx), unsigned(number / gx % gy), unsigned(number / gx / gy)};
  random_ = launch_->seed == 0 ? 0 : mix(launch_->seed * 0x10001 + number) | 1;
  poison_shared();

  live_ = count_;
  at_barrier_ = 0;
  votes_ = 0;
  ready_head_ = ready_count_ = 0;
  free_stack_count_ = count_;
  memset(waiting_, 0, sizeof waiting_);
  memset(done_, 0, sizeof done_);
  if (count_ % 32 != 0) done_[count_ / 32] = ~0u << (count_ % 32);  // lanes that do not exist
  uint3 index = {0, 0, 0};
  for (unsigned i = 0; i < count_; i++) {
    Thread& t = threads_[i];
    t.index = index;
    t.status = Status::kFresh;
    t.first_copy = t.last_copy = kNone;
    t.groups = 0;
    free_stacks_[count_ - 1 - i] = uint16_t(i);
    ready_[i] = uint16_t(i);
    if (++index.x == launch_->block[0]) {
      index.x = 0;
      if (++index.y == launch_->block[1]) index.y = 0, index.z++;
    }
  }
  ready_count_ = count_;

  const unsigned i = pop();
  Thread& first = threads_[i];
  first.stack = free_stacks_[--free_stack_count_];
  prepare_stack(first.stack, first.context);
  first.status = Status::kReady;
  enter(i);
  switch_context(main_, first.context);
  return live_ == 0 && shared_intact();
}

// The running thread has returned from the kernel.
inline void Block::finish() {
  const unsigned me = current_, warp = me / 32;
  Thread& t = threads_[me];
  t.status = Status::kDone;
  while (t.first_copy != kNone) {  // copies nobody waited for never land
    const uint32_t c = t.first_copy;
    t.first_copy = copies_[c].next;
    copies_[c].next = copies_free_;
    copies_free_ = c;
  }
  live_--;
  done_[warp] |= 1u << (me & 31);
  if (at_barrier_ != 0 && at_barrier_ == live_) release_barrier(kNone);
  for (uint32_t lanes = waiting_[warp]; lanes != 0;) {  // collectives that waited for this lane only
    const Thread& other = threads_[warp * 32 + unsigned(__builtin_ctz(lanes))];
    const uint32_t mask = other.mask;
    complete_warp(warp, mask, kNone);
    lanes &= ~mask;
  }
}

// ---- barriers

// All live threads are at the barrier. `except` is running and stays so.
inline void Block::release_barrier(unsigned except) {
  votes_result_ = votes_;
  arrived_result_ = int(at_barrier_);
  votes_ = 0;
  at_barrier_ = 0;
  for (unsigned i = 0; i < count_; i++) {
    if (threads_[i].status != Status::kAtBarrier) continue;
    threads_[i].status = Status::kReady;
    if (i != except) push(i);
  }
}

// Waits for all live threads; returns how many of them came with a true predicate.
inline int Block::barrier(bool predicate, int* arrived, Site site) {
  const unsigned me = current_;
  Thread& t = threads_[me];
  t.site = site;
  t.status = Status::kAtBarrier;
  if (at_barrier_++ == 0) {
    barrier_site_ = site;
    barrier_first_ = me;
  } else if (barrier_site_.line != site.line || barrier_site_.what != site.what) {
    fail("divergent barrier: thread %u is at %s (%s:%d) and thread %u at %s (%s:%d)", barrier_first_,
         barrier_site_.what, barrier_site_.file, barrier_site_.line, me, site.what, site.file, site.line);
  }
  votes_ += predicate;
  if (at_barrier_ == live_) {
    const bool stay = random_ == 0;  // in turn, the last to come goes on at once
    release_barrier(stay ? me : kNone);
    if (!stay) leave(me);
  } else {
    leave(me);
  }
  if (arrived != nullptr) *arrived = arrived_result_;
  return votes_result_;
}

// ---- warp collectives

// Does the collective of `mask` if all its lanes wait in it (or are done). `except` is running and stays so.
inline void Block::complete_warp(unsigned warp, uint32_t mask, unsigned except) {
  if (((waiting_[warp] | done_[warp]) & mask) != mask) return;
  const uint32_t lanes = mask & ~done_[warp];
  if (lanes == 0) return;
  void* arguments[32];
  const Thread* const first = &threads_[warp * 32 + unsigned(__builtin_ctz(lanes))];
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const unsigned lane = unsigned(__builtin_ctz(rest));
    const Thread& t = threads_[warp * 32 + lane];
    if (t.mask != mask) return;
    if (t.combine != first->combine || t.any_site != first->any_site ||
        (!t.any_site && t.site.line != first->site.line)) {
      fail("lanes of one warp are in different collectives: thread %u is at %s (%s:%d) and thread %u at %s (%s:%d)",
           unsigned(first - threads_), first->site.what, first->site.file, first->site.line, warp * 32 + lane,
           t.site.what, t.site.file, t.site.line);
    }
    arguments[lane] = t.argument;
  }
  waiting_[warp] &= ~lanes;
  if (first->combine != nullptr) first->combine(arguments, lanes);
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const unsigned i = warp * 32 + unsigned(__builtin_ctz(rest));
    threads_[i].status = Status::kReady;
    if (i != except) push(i);
  }
}

inline void Block::collective(uint32_t mask, Combine combine, void* argument, Site site, bool any_site) {
  const unsigned me = current_, warp = me / 32;
  Thread& t = threads_[me];
  t.site = site;
  if ((mask >> (me & 31) & 1) == 0) {
    fail("thread %u (lane %u) calls %s (%s:%d) with mask 0x%08x, which leaves it out", me, me & 31, site.what,
         site.file, site.line, mask);
  }
  t.status = Status::kInWarp;
  t.any_site = any_site;
  t.mask = mask;
  t.combine = combine;
  t.argument = argument;
  waiting_[warp] |= 1u << (me & 31);
  const bool stay = random_ == 0;
  complete_warp(warp, mask, stay ? me : kNone);
  if (!stay || t.status == Status::kInWarp) leave(me);
}

inline void Block::yield() {
  push(current_);
  leave(current_);
}

// ---- asynchronous copies

inline void Block::copy_async(void* to, const void* from, uint32_t bytes, bool valid, Site site) {
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0 || (valid && reinterpret_cast<uintptr_t>(from) % bytes != 0)) {
    threads_[current_].site = site;
    fail("thread %u: %s (%s:%d) of %u bytes from or to an address that is not a multiple of %u", current_, site.what,
         site.file, site.line, bytes, bytes);
  }
  if (copies_free_ == kNone) {
    const uint32_t old = copies_capacity_;
    copies_capacity_ = old == 0 ? 1024 : 2 * old;
    copies_ = static_cast<Copy*>(realloc(copies_, copies_capacity_ * sizeof(Copy)));
    for (uint32_t i = old; i < copies_capacity_; i++) copies_[i].next = i + 1 < copies_capacity_ ? i + 1 : kNone;
    copies_free_ = old;
  }
  Thread& t = threads_[current_];
  const uint32_t c = copies_free_;
  copies_free_ = copies_[c].next;
  copies_[c] = {to, from, bytes, valid, t.groups, kNone};
  if (t.first_copy == kNone) {
    t.first_copy = c;
  } else {
    copies_[t.last_copy].next = c;
  }
  t.last_copy = c;
  memset(to, 0xFF, bytes);  // from here to its landing, nobody may read what was there
}

// Lands all but the `pending_groups` latest groups of the running thread.
inline void Block::land_copies(uint32_t pending_groups) {
  Thread& t = threads_[current_];
  while (t.first_copy != kNone) {
    const uint32_t c = t.first_copy;
    const Copy& copy = copies_[c];
    if (copy.group + pending_groups >= t.groups) break;
    if (copy.valid) {
      memcpy(copy.to, copy.from, copy.bytes);
    } else {
      memset(copy.to, 0, copy.bytes);
    }
    t.first_copy = copy.next;
    copies_[c].next = copies_free_;
    copies_free_ = c;
  }
}

// ---- errors

// Lists what the threads are doing: equal states together, with the ranges of threads in them.
inline void Block::describe(char* text, size_t bytes) const {
  static bool seen[kMaxThreads];
  memset(seen, 0, sizeof seen);
  size_t used = 0;
  auto add = [&](const char* format, auto... values) {
    if (used < bytes) used += size_t(snprintf(text + used, bytes - used, format, values...));
  };
  for (unsigned i = 0; i < count_; i++) {
    if (seen[i]) continue;
    const Thread& t = threads_[i];
    auto same = [&](const Thread& o) {
      return o.status == t.status && ((t.status != Status::kAtBarrier && t.status != Status::kInWarp) ||
                                      (o.site.line == t.site.line && o.site.what == t.site.what));
    };
    add("\n  ");
    unsigned number = 0;
    for (unsigned k = i; k < count_; k++) {
      if (seen[k] || !same(threads_[k])) continue;
      unsigned end = k;
      while (end + 1 < count_ && !seen[end + 1] && same(threads_[end + 1])) end++;
      for (unsigned s = k; s <= end; s++) seen[s] = true;
      if (++number <= 6) {
        add(number == 1 ? "thread %u" : ", %u", k);
        if (end > k) add("-%u", end);
      } else if (number == 7) {
        add(", ...");
      }
      k = end;
    }
    switch (t.status) {
      case Status::kFresh: add(": not started"); break;
      case Status::kReady: add(": running"); break;
      case Status::kAtBarrier: add(": wait at %s (%s:%d)", t.site.what, t.site.file, t.site.line); break;
      case Status::kInWarp:
        add(": wait at %s (%s:%d) for lanes 0x%08x", t.site.what, t.site.file, t.site.line, t.mask);
        break;
      case Status::kDone: add(": have returned"); break;
    }
  }
}

// Writes the launch's message, if it is the first.
SCX_HOST_NOINLINE inline void Block::report(const char* format, va_list values) {
  int none = 0;
  if (!launch_->failed.compare_exchange_strong(none, result_)) return;
  char* text = launch_->message;
  const size_t bytes = sizeof launch_->message;
  size_t used = size_t(snprintf(text, bytes, "block (%u, %u, %u): ", state.block.x, state.block.y, state.block.z));
  used += size_t(vsnprintf(text + used, bytes - used, format, values));
  if (used < bytes) describe(text + used, bytes - used);
}

SCX_HOST_NOINLINE inline void Block::overrun(const char* format, ...) {
  va_list values;
  va_start(values, format);
  report(format, values);
  va_end(values);
}

SCX_HOST_NOINLINE inline void Block::fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  report(format, values);
  va_end(values);
  give_up();
}

SCX_HOST_NOINLINE inline void Block::stuck() {
  fail("no thread can go on: a barrier or collective is not reached by all the threads it waits for");
}

// Ends the block: the threads are left where they are.
inline void Block::give_up() {
#if defined(SCX_HOST_ASAN)
  __asan_unpoison_memory_region(worker_->shared, kMaxShared + kSharedSlack);
#endif
  switch_context(threads_[current_].context, main_, true);
  __builtin_unreachable();
}

// ---- entry

template <class Args, void (*kernel)(const Args)>
static void run(Launch* launch, Worker* worker) {
  const uint64_t blocks = uint64_t(launch->grid[0]) * launch->grid[1] * launch->grid[2];
  Block block(launch, worker, [](const void* args) { kernel(*static_cast<const Args*>(args)); });
  while (launch->failed.load(std::memory_order_relaxed) == 0) {
    const uint64_t number = launch->next.fetch_add(1, std::memory_order_relaxed);
    if (number >= blocks || !block.run(number)) break;
  }
}

}  // namespace scx_host

#define threadIdx (static_cast<const uint3&>(::scx_host::state.thread))
#define blockIdx (static_cast<const uint3&>(::scx_host::state.block))
#define blockDim (static_cast<const uint3&>(::scx_host::state.block_dim))
#define gridDim (static_cast<const uint3&>(::scx_host::state.grid_dim))

extern "C" {
SCX_HOST_EXPORTED extern const int scx_host_abi = scx_host::kAbi;
#if defined(SCX_HOST_ASAN)
SCX_HOST_EXPORTED extern const int scx_host_one_worker = 1;
#else
SCX_HOST_EXPORTED extern const int scx_host_one_worker = 0;
#endif
}

// What the driver needs of a kernel.
#define SCX_HOST_EXPORT(name, Args)                                                                               \
  extern "C" {                                                                                                    \
  SCX_HOST_EXPORTED void name##__host(scx_host::Launch* launch, scx_host::Worker* worker);                  \
  SCX_HOST_EXPORTED void name##__host(scx_host::Launch* launch, scx_host::Worker* worker) {                 \
    scx_host::run<Args, name>(launch, worker);                                                                    \
  }                                                                                                               \
  SCX_HOST_EXPORTED extern const size_t name##__args_size = sizeof(Args);                                         \
  }

// The block's dynamic shared memory, 128-byte aligned.
namespace scx {
__device__ __forceinline__ unsigned char* dynamic_shared() { return scx_host::state.shared; }
}  // namespace scx

// ---- barriers -------------------------------------------------------------------------------------------------------

static inline void __syncthreads(SCX_HOST_AT) {
  scx_host::block().barrier(false, nullptr, {"__syncthreads", file, line});
}
static inline int __syncthreads_count(int predicate, SCX_HOST_AT) {
  return scx_host::block().barrier(predicate != 0, nullptr, {"__syncthreads_count", file, line});
}
static inline int __syncthreads_or(int predicate, SCX_HOST_AT) {
  return scx_host::block().barrier(predicate != 0, nullptr, {"__syncthreads_or", file, line}) != 0;
}
static inline int __syncthreads_and(int predicate, SCX_HOST_AT) {
  int arrived;
  return scx_host::block().barrier(predicate != 0, &arrived, {"__syncthreads_and", file, line}) == arrived;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, SCX_HOST_AT) {
  scx_host::block().collective(mask, nullptr, nullptr, {"__syncwarp", file, line}, true);
}

// ---- warp collectives -----------------------------------------------------------------------------------------------

namespace scx_host {

template <class T>
struct Shuffle {
  T value;   // this lane's
  T result;  // of lane `source`
  int source;
};

// Every lane reads its source; a lane that takes no part has no value, which here is 0xFF in every byte.
template <class T>
static void shuffle_lanes(void** arguments, uint32_t lanes) {
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    auto* mine = static_cast<Shuffle<T>*>(arguments[__builtin_ctz(rest)]);
    if (lanes >> mine->source & 1) {
      mine->result = static_cast<Shuffle<T>*>(arguments[mine->source])->value;
    } else {
      memset(static_cast<void*>(&mine->result), 0xFF, sizeof(T));
    }
  }
}

template <class T>
static inline T shuffle(uint32_t mask, T value, int source, Site site) {
  static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "shuffles move values of up to 8 bytes");
  Shuffle<T> argument = {value, value, source};
  block().collective(mask, shuffle_lanes<T>, &argument, site);
  return argument.result;
}

// A collective with one result for all lanes: R combine(T const* values in lane order, count).
template <class T, class R>
struct Reduction {
  T value;
  R result;
};
template <class T, class R, class Step>
static void reduce_lanes(void** arguments, uint32_t lanes) {
  R result = Step::start();
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    result = Step::step(result, static_cast<Reduction<T, R>*>(arguments[lane])->value, lane);
  }
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    static_cast<Reduction<T, R>*>(arguments[__builtin_ctz(rest)])->result = result;
  }
}
template <class T, class R, class Step>
static inline R reduce(uint32_t mask, T value, Site site) {
  Reduction<T, R> argument = {value, R()};
  block().collective(mask, reduce_lanes<T, R, Step>, &argument, site);
  return argument.result;
}

struct Ballot {
  static unsigned start() { return 0; }
  static unsigned step(unsigned result, bool value, int lane) { return result | unsigned(value) << lane; }
};
template <class T>
struct Sum {
  static T start() { return 0; }
  static T step(T result, T value, int) { return T(unsigned(result) + unsigned(value)); }
};
template <class T>
struct Least {
  static T start() { return std::is_signed<T>::value ? T(0x7fffffff) : T(0xffffffffu); }
  static T step(T result, T value, int) { return value < result ? value : result; }
};
template <class T>
struct Greatest {
  static T start() { return std::is_signed<T>::value ? T(0x80000000u) : T(0); }
  static T step(T result, T value, int) { return value > result ? value : result; }
};
struct BitAnd {
  static unsigned start() { return ~0u; }
  static unsigned step(unsigned result, unsigned value, int) { return result & value; }
};
struct BitOr {
  static unsigned start() { return 0; }
  static unsigned step(unsigned result, unsigned value, int) { return result | value; }
};
struct BitXor {
  static unsigned start() { return 0; }
  static unsigned step(unsigned result, unsigned value, int) { return result ^ value; }
};

template <class T>
struct Match {
  T value;
  unsigned result;
};
template <class T>
static void match_lanes(void** arguments, uint32_t lanes) {
  for (uint32_t a = lanes; a != 0; a &= a - 1) {
    auto* mine = static_cast<Match<T>*>(arguments[__builtin_ctz(a)]);
    mine->result = 0;
    for (uint32_t b = lanes; b != 0; b &= b - 1) {
      const int lane = __builtin_ctz(b);
      if (static_cast<Match<T>*>(arguments[lane])->value == mine->value) mine->result |= 1u << lane;
    }
  }
}

}  // namespace scx_host

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, SCX_HOST_AT) {
  const int lane = int(scx_host::block().lane());
  return scx_host::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), {"__shfl_sync", file, line});
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SCX_HOST_AT) {
  const int lane = int(scx_host::block().lane()), other = lane ^ (bits & 31);
  const int source = other > (lane | (width - 1)) ? lane : other;
  return scx_host::shuffle(mask, value, source, {"__shfl_xor_sync", file, line});
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SCX_HOST_AT) {
  const int lane = int(scx_host::block().lane()), other = lane + int(delta & 31);
  const int source = other > (lane | (width - 1)) ? lane : other;
  return scx_host::shuffle(mask, value, source, {"__shfl_down_sync", file, line});
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SCX_HOST_AT) {
  const int lane = int(scx_host::block().lane()), other = lane - int(delta & 31);
  const int source = other < (lane & ~(width - 1)) ? lane : other;
  return scx_host::shuffle(mask, value, source, {"__shfl_up_sync", file, line});
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, SCX_HOST_AT) {
  return scx_host::reduce<bool, unsigned, scx_host::Ballot>(mask, predicate != 0, {"__ballot_sync", file, line});
}
static inline int __any_sync(unsigned mask, int predicate, SCX_HOST_AT) {
  return scx_host::reduce<bool, unsigned, scx_host::Ballot>(mask, predicate != 0, {"__any_sync", file, line}) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, SCX_HOST_AT) {
  return scx_host::reduce<bool, unsigned, scx_host::Ballot>(mask, predicate == 0, {"__all_sync", file, line}) == 0;
}
// A program must not count on which lanes run together: here each runs alone.
static inline unsigned __activemask() { return 1u << scx_host::block().lane(); }
template <class T>
static inline unsigned __match_any_sync(unsigned mask, T value, SCX_HOST_AT) {
  scx_host::Match<T> argument = {value, 0};
  scx_host::block().collective(mask, scx_host::match_lanes<T>, &argument, {"__match_any_sync", file, line});
  return argument.result;
}

#define SCX_HOST_REDUCE(name, T, Step)                                                       \
  static inline T name(unsigned mask, T value, SCX_HOST_AT) {                                \
    return scx_host::reduce<T, T, scx_host::Step>(mask, value, {#name, file, line});         \
  }
SCX_HOST_REDUCE(__reduce_add_sync, unsigned, Sum<unsigned>)
SCX_HOST_REDUCE(__reduce_add_sync, int, Sum<int>)
SCX_HOST_REDUCE(__reduce_min_sync, unsigned, Least<unsigned>)
SCX_HOST_REDUCE(__reduce_min_sync, int, Least<int>)
SCX_HOST_REDUCE(__reduce_max_sync, unsigned, Greatest<unsigned>)
SCX_HOST_REDUCE(__reduce_max_sync, int, Greatest<int>)
SCX_HOST_REDUCE(__reduce_and_sync, unsigned, BitAnd)
SCX_HOST_REDUCE(__reduce_or_sync, unsigned, BitOr)
SCX_HOST_REDUCE(__reduce_xor_sync, unsigned, BitXor)
#undef SCX_HOST_REDUCE

// ---- atomics, fences, loads -----------------------------------------------------------------------------------------

namespace scx_host {

template <class T>
struct Same {
  typedef T type;
};

// Replaces *p by change(*p) in one piece and returns what was there.
template <class T, class Change>
static inline T replace(T* p, Change change) {
  T seen;
  __atomic_load(p, &seen, __ATOMIC_RELAXED);
  for (;;) {
    T next = change(seen);
    if (__atomic_compare_exchange(p, &seen, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return seen;
  }
}

}  // namespace scx_host

#define SCX_HOST_ATOMIC(name, expression)                                      \
  template <class T>                                                           \
  static inline T name(T* p, typename scx_host::Same<T>::type v) {             \
    return scx_host::replace(p, [v](T old) { return T(expression); });         \
  }
SCX_HOST_ATOMIC(atomicAdd, old + v)
SCX_HOST_ATOMIC(atomicSub, old - v)
SCX_HOST_ATOMIC(atomicMax, v > old ? v : old)
SCX_HOST_ATOMIC(atomicMin, v < old ? v : old)
SCX_HOST_ATOMIC(atomicAnd, old & v)
SCX_HOST_ATOMIC(atomicOr, old | v)
SCX_HOST_ATOMIC(atomicXor, old ^ v)
SCX_HOST_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
SCX_HOST_ATOMIC(atomicDec, old == 0 || old > v ? v : old - 1)
SCX_HOST_ATOMIC(atomicExch, (void(old), v))
SCX_HOST_ATOMIC(atomicAdd_block, old + v)
SCX_HOST_ATOMIC(atomicAdd_system, old + v)
#undef SCX_HOST_ATOMIC
template <class T>
static inline T atomicCAS(T* p, typename scx_host::Same<T>::type expected, typename scx_host::Same<T>::type v) {
  __atomic_compare_exchange(p, &expected, &v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __nanosleep(unsigned) { scx_host::block().yield(); }
static inline void __trap(SCX_HOST_AT) { scx_host::block().fail("__trap (%s:%d)", file, line); }

#define SCX_HOST_LOAD(name)        \
  template <class T>               \
  static inline T name(const T* p) { return *p; }
SCX_HOST_LOAD(__ldg)
SCX_HOST_LOAD(__ldca)
SCX_HOST_LOAD(__ldcg)
SCX_HOST_LOAD(__ldcs)
SCX_HOST_LOAD(__ldlu)
SCX_HOST_LOAD(__ldcv)
#undef SCX_HOST_LOAD
#define SCX_HOST_STORE(name)       \
  template <class T>               \
  static inline void name(T* p, typename scx_host::Same<T>::type v) { *p = v; }
SCX_HOST_STORE(__stwb)
SCX_HOST_STORE(__stcg)
SCX_HOST_STORE(__stcs)
SCX_HOST_STORE(__stwt)
#undef SCX_HOST_STORE

static inline long long clock64() {
#if defined(__x86_64__)
  return (long long)__builtin_ia32_rdtsc();
#else
  return 0;
#endif
}

// ---- bits -----------------------------------------------------------------------------------------------------------

static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __ffsll(long long v) { return __builtin_ffsll(v); }
static inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(unsigned(v)); }
static inline int __clzll(long long v) { return v == 0 ? 64 : __builtin_clzll((unsigned long long)v); }
static inline unsigned __brev(unsigned v) {
  v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
  v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
  v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
  return __builtin_bswap32(v);
}
static inline unsigned long long __brevll(unsigned long long v) {
  return (unsigned long long)__brev(unsigned(v)) << 32 | __brev(unsigned(v >> 32));
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((uint64_t(high) << 32 | low) << (shift & 31)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = uint64_t(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned s = selector >> (4 * i);
    unsigned byte = unsigned(bytes >> (8 * (s & 7))) & 0xff;
    if (s & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}
static inline int __mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
static inline long long __mul64hi(long long a, long long b) { return (long long)((__int128(a) * b) >> 64); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((static_cast<unsigned __int128>(a) * b) >> 64);
}

// ---- numbers --------------------------------------------------------------------------------------------------------

namespace scx_host {
template <class To, class From>
static inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace scx_host

static inline unsigned __float_as_uint(float v) { return scx_host::bits<unsigned>(v); }
static inline int __float_as_int(float v) { return scx_host::bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return scx_host::bits<float>(v); }
static inline float __int_as_float(int v) { return scx_host::bits<float>(v); }
static inline long long __double_as_longlong(double v) { return scx_host::bits<long long>(v); }
static inline double __longlong_as_double(long long v) { return scx_host::bits<double>(v); }

#define SCX_HOST_MINMAX(T)                                                \
  static inline constexpr T min(T a, T b) { return b < a ? b : a; }       \
  static inline constexpr T max(T a, T b) { return a < b ? b : a; }
SCX_HOST_MINMAX(int)
SCX_HOST_MINMAX(unsigned)
SCX_HOST_MINMAX(long)
SCX_HOST_MINMAX(unsigned long)
SCX_HOST_MINMAX(long long)
SCX_HOST_MINMAX(unsigned long long)
#undef SCX_HOST_MINMAX
static inline constexpr unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
static inline constexpr unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
static inline constexpr unsigned max(int a, unsigned b) { return max(unsigned(a), b); }
static inline constexpr unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
// Never contracted to a fused operation, on a device or here.
static inline float __fadd_rn(float a, float b) {
  volatile float sum = a + b;
  return sum;
}
static inline float __fsub_rn(float a, float b) {
  volatile float difference = a - b;
  return difference;
}
static inline float __fmul_rn(float a, float b) {
  volatile float product = a * b;
  return product;
}
// The C library declares functions of these names itself.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __sincosf(x, s, c) sincosf(x, s, c)

static inline int __float2int_rn(float x) { return int(rintf(x)); }
static inline int __float2int_rz(float x) { return int(x); }
static inline int __float2int_rd(float x) { return int(floorf(x)); }
static inline int __float2int_ru(float x) { return int(ceilf(x)); }
static inline unsigned __float2uint_rn(float x) { return unsigned(rintf(x)); }
static inline unsigned __float2uint_rz(float x) { return unsigned(x); }
static inline float __int2float_rn(int x) { return float(x); }
static inline float __uint2float_rn(unsigned x) { return float(x); }
static inline float __ull2float_rn(unsigned long long x) { return float(x); }
static inline float __double2float_rn(double x) { return float(x); }

// ---- 16-bit floats --------------------------------------------------------------------------------------------------

namespace scx_host {

// Round to nearest, ties to even; NaN becomes 0x7fff, as on the device.
static inline uint16_t to_bf16(float v) {
  const uint32_t u = bits<uint32_t>(v);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return uint16_t((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
static inline float from_bf16(uint16_t v) { return bits<float>(uint32_t(v) << 16); }

static inline uint16_t to_half(float v) {
  const uint32_t u = bits<uint32_t>(v), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // rounds to 65536 or more
  if (magnitude < 0x38800000u) {                                  // below the least normal half: a multiple of 2^-24
    return uint16_t(sign | uint32_t(lrintf(bits<float>(magnitude) * 16777216.0f)));
  }
  const uint32_t rebased = magnitude - (112u << 23);
  return uint16_t(sign | (rebased + 0xfffu + (rebased >> 13 & 1)) >> 13);
}
static inline float from_half(uint16_t v) {
  const uint32_t sign = uint32_t(v & 0x8000u) << 16, exponent = v >> 10 & 31, mantissa = v & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = float(mantissa) / 16777216.0f;
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) return bits<float>(sign | 0x7f800000u | mantissa << 13);
  return bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

}  // namespace scx_host

#define SCX_HOST_FLOAT16(name, to, from)                             \
  struct alignas(2) name {                                           \
    uint16_t __x;                                                    \
    name() = default;                                                \
    name(float v) : __x(scx_host::to(v)) {}                          \
    operator float() const { return scx_host::from(__x); }           \
  };                                                                 \
  struct alignas(4) name##2 {                                        \
    name x, y;                                                       \
  };                                                                 \
  static inline float __low2float(name##2 v) { return v.x; }         \
  static inline float __high2float(name##2 v) { return v.y; }
SCX_HOST_FLOAT16(__nv_bfloat16, to_bf16, from_bf16)
SCX_HOST_FLOAT16(__half, to_half, from_half)
#undef SCX_HOST_FLOAT16
typedef __nv_bfloat162 nv_bfloat162;
typedef __nv_bfloat16 nv_bfloat16;
typedef __half half;
typedef __half2 half2;

static inline __nv_bfloat16 __float2bfloat16(float v) { return v; }
static inline __nv_bfloat16 __float2bfloat16_rn(float v) { return v; }
static inline float __bfloat162float(__nv_bfloat16 v) { return v; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
static inline __nv_bfloat162 __float2bfloat162_rn(float v) { return {v, v}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.__x; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return scx_host::bits<__nv_bfloat16>(v); }
static inline __half __float2half(float v) { return v; }
static inline __half __float2half_rn(float v) { return v; }
static inline float __half2float(__half v) { return v; }
static inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
static inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
static inline __half __low2half(__half2 v) { return v.x; }
static inline __half __high2half(__half2 v) { return v.y; }
static inline unsigned short __half_as_ushort(__half v) { return v.__x; }
static inline __half __ushort_as_half(unsigned short v) { return scx_host::bits<__half>(v); }

// Last, as the standard headers use the word as an attribute.
#define __noinline__ __attribute__((noinline))
#if !defined(__clang__)
#define __builtin_assume(condition) ((void)0)
#endif
