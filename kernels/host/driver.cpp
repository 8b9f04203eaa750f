// A CUDA driver without a device: libcuda as far as this project calls it, running kernel modules compiled for the host
// (cuda_host.h) on the CPU. Everything executes before the call returns, in the order of the calls.
//
// It is stricter than a real driver where that finds mistakes: copies and fills must lie inside one allocation, device
// memory starts as NaN, writes around an allocation are reported by the launch that made them, and what a capturing
// stream must not do is an error.
//
// Settings, read when they matter: SCX_HOST_THREADS (workers; default: one a core), SCX_HOST_SEED (schedule of threads,
// 0: in turn), SCX_HOST_MEMORY (bytes of device memory, 8 GiB), SCX_HOST_FAIL_ALLOC_ABOVE (bytes; larger allocations
// fail), SCX_HOST_FAIL_LAUNCH (N: the N-th launch from here fails). Each is an environment variable, or set with
// scx_host_configure, which goes before the environment.
#include <dlfcn.h>
#include <signal.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "launch.h"

#define API extern "C" __attribute__((visibility("default")))

namespace {

using scx_host::Launch;
using scx_host::Launcher;
using scx_host::Worker;

using Address = unsigned long long;  // CUdeviceptr
using Result = int;                  // CUresult

enum : Result {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kUnsupportedLimit = 215,
  kFileNotFound = 301,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchOutOfResources = 701,
  kLaunchFailed = 719,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureMerge = 902,
  kCaptureUnmatched = 903,
  kCaptureUnjoined = 904,
  kCaptureIsolation = 905,
  kCaptureImplicit = 906,
  kCapturedEvent = 907,
  kCaptureWrongThread = 908,
};

struct ErrorText {
  Result code;
  const char* name;
  const char* text;
};
const ErrorText kErrors[] = {
    {kSuccess, "CUDA_SUCCESS", "no error"},
    {kInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {kNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {kNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {kInvalidImage, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {kUnsupportedLimit, "CUDA_ERROR_UNSUPPORTED_LIMIT", "limit is not supported on this architecture"},
    {kFileNotFound, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {kNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {kNotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {kLaunchOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {kLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {kNotSupported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {kCaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {kCaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {kCaptureMerge, "CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate captures"},
    {kCaptureUnmatched, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
    {kCaptureUnjoined, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {kCaptureIsolation, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {kCaptureImplicit, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {kCapturedEvent, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {kCaptureWrongThread, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

std::recursive_mutex g_mutex;  // held by every call
#define LOCK std::lock_guard<std::recursive_mutex> lock(g_mutex)

// ---- settings -------------------------------------------------------------------------------------------------------

std::map<std::string, std::string> g_settings;

std::string setting(const char* name) {
  auto found = g_settings.find(name);
  if (found != g_settings.end()) return found->second;
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

uint64_t setting(const char* name, uint64_t otherwise) {
  const std::string text = setting(name);
  return text.empty() ? otherwise : strtoull(text.c_str(), nullptr, 10);
}

// The launches until one fails on purpose: armed when its setting changes.
std::string g_fail_launch_seen;
uint64_t g_fail_launch_in = 0;

bool launch_fails_on_purpose() {
  const std::string text = setting("SCX_HOST_FAIL_LAUNCH");
  if (text != g_fail_launch_seen) {
    g_fail_launch_seen = text;
    g_fail_launch_in = strtoull(text.c_str(), nullptr, 10);
  }
  return g_fail_launch_in != 0 && --g_fail_launch_in == 0;
}

// ---- state ----------------------------------------------------------------------------------------------------------

struct Counters {
  uint64_t launches, graph_launches, allocations, frees, host_allocations, synchronisations, bytes, peak_bytes;
};
static_assert(sizeof(Counters) == 8 * sizeof(uint64_t), "scx_host_counters gives eight numbers");

struct Module {
  void* library;
};

struct Function {
  Module* module;
  std::string name;
  Launcher launcher;
  size_t args_size;
  unsigned max_threads;
  size_t max_dynamic = 48 << 10;
  bool one_worker;
};

// Something a stream does: at once, or when the graph it was captured into is launched.
struct Node {
  enum Kind { kKernel, kMemset, kMemcpy, kHost } kind;
  // kernel
  Function* function = nullptr;
  unsigned grid[3] = {}, block[3] = {};
  size_t shared_bytes = 0;
  std::vector<uint64_t> args;
  // fill: `count` items of `width` bytes; copy: `count` bytes
  void* to = nullptr;
  const void* from = nullptr;
  size_t count = 0;
  unsigned width = 0, value = 0;
  // host function
  void (*call)(void*) = nullptr;
  void* data = nullptr;
};

struct Graph {
  std::vector<Node> nodes;
};

struct Stream;

struct Capture {
  std::unique_ptr<Graph> graph{new Graph};
  Stream* origin;
  int mode;  // 0 global, 1 thread-local, 2 relaxed
  std::thread::id thread;
  bool invalid = false;
  std::unordered_set<Stream*> streams;
};

struct Stream {
  unsigned flags = 0;
  int priority = 0;
  std::shared_ptr<Capture> capture;
  uint64_t position = 0;  // nodes captured on this stream
  bool joined = false;    // all of them are waited for by another stream of the capture
};

struct Event {
  unsigned flags = 0;
  bool recorded = false;
  double seconds = 0;
  std::shared_ptr<Capture> capture;  // of its last record, if that was captured
  Stream* stream = nullptr;
  uint64_t position = 0;
};

struct Allocation {
  size_t bytes;
  unsigned char* memory;  // of the whole piece, with its margins
};

struct Driver {
  bool initialized = false;
  unsigned retained = 0;  // of the primary context
  Result dead = kSuccess;
  std::string message;  // of the last failed launch
  Counters counters = {};
  std::map<Address, Allocation> device;
  std::map<uintptr_t, size_t> pinned;
  std::map<Address, size_t> globals;  // symbols of modules whose addresses were given out
  std::unordered_set<Stream*> streams;
  std::unordered_set<Event*> events;
  std::unordered_set<Module*> modules;
  std::vector<std::unique_ptr<Function>> functions;
  std::unordered_set<Function*> live_functions;
  std::unordered_set<Graph*> graphs, executables;
  Stream default_stream;
  unsigned context_flags = 0;
  std::unordered_map<int, size_t> limits;
};

Driver& driver() {
  static Driver* d = new Driver;  // never destroyed: calls may come while the process ends
  return *d;
}

char g_context;  // its address is the primary context
thread_local void* t_context = nullptr;

// A sanitizer sees the edges of an allocation itself, if they are those of a plain malloc.
bool sanitized() {
  static const bool found = dlsym(RTLD_DEFAULT, "__asan_init") != nullptr;
  return found;
}

// ---- workers --------------------------------------------------------------------------------------------------------

unsigned char* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<unsigned char*>(p);
}

bool make_worker(Worker& w) {
  using namespace scx_host;
  w.guard = size_t(sysconf(_SC_PAGESIZE));
  w.stack_stride = w.guard + kStackBytes;
  w.stacks = reserve(kMaxThreads * w.stack_stride);
  w.shared = reserve(kMaxShared + kSharedSlack);
  w.threads = reserve(kMaxThreads * kThreadBytes);
  if (w.stacks == nullptr || w.shared == nullptr || w.threads == nullptr) return false;
  // With very many workers the system may refuse further mappings; stacks are unguarded then.
  for (unsigned i = 0; i < kMaxThreads; i++) {
    if (mprotect(w.stacks + i * w.stack_stride, w.guard, PROT_NONE) != 0) break;
  }
  return true;
}

// ---- faults

// The worker whose blocks this thread runs.
__attribute__((tls_model("initial-exec"))) thread_local Worker* t_worker = nullptr;

const int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE};
struct sigaction g_before[NSIG];  // who handled them before

// A fault in a kernel ends its launch; any other goes to who was asked before.
void on_fault(int number, siginfo_t* info, void* context) {
  Worker* w = t_worker;
  if (w != nullptr && w->fault != nullptr) {
    char what[96];
    if (number == SIGFPE) {
      w->fault(w->block, scx_host::kLaunchFailed, "divided an integer by zero");
    }
    const unsigned char* at = static_cast<unsigned char*>(info->si_addr);
    const bool in_stacks = at >= w->stacks && at < w->stacks + scx_host::kMaxThreads * w->stack_stride;
    snprintf(what, sizeof what, in_stacks ? "has more local variables than its stack holds (%p)"
                                          : "reads or writes address %p, which is no memory", info->si_addr);
    w->fault(w->block, scx_host::kIllegalAddress, what);
  }
  const struct sigaction& before = g_before[number];
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(number, info, context);
  } else if (before.sa_handler == SIG_DFL) {
    sigaction(number, &before, nullptr);  // the instruction faults again, as if nobody had asked
  } else if (before.sa_handler != SIG_IGN) {
    before.sa_handler(number);
  }
}

// The handler runs on a stack of its own, since a fiber's may be what is full.
void catch_faults() {
  stack_t stack;
  if (sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_DISABLE) != 0) {
    stack.ss_size = 64 << 10;
    stack.ss_sp = malloc(stack.ss_size);
    stack.ss_flags = 0;
    sigaltstack(&stack, nullptr);
  }
  static const bool once = [] {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // it leaves by another way than returning
    for (int number : kFaults) sigaction(number, &action, &g_before[number]);
    return true;
  }();
  (void)once;
}

void run_blocks(Launcher launcher, Launch* launch, Worker* worker) {
  if (!sanitized()) {
    static thread_local bool caught = false;
    if (!caught) catch_faults();
    caught = true;
  }
  t_worker = worker;
  launcher(launch, worker);
  t_worker = nullptr;
}

// The calling thread is worker 0; the others sleep between launches.
class Pool {
 public:
  // Runs `launcher` on up to `workers` workers; false: no memory for one.
  bool run(Launcher launcher, Launch& launch, unsigned workers) {
    while (workers_.size() < workers) {
      std::unique_ptr<Worker> w(new Worker());
      if (!make_worker(*w)) break;
      workers_.push_back(std::move(w));
      const unsigned index = unsigned(workers_.size()) - 1;
      if (index > 0) {
        const uint64_t seen = generation_;
        std::thread([this, index, seen] { help(index, seen); }).detach();
      }
    }
    if (workers_.empty()) return false;
    const unsigned count = unsigned(std::min<size_t>(workers, workers_.size()));
    if (count > 1) {
      std::lock_guard<std::mutex> lock(mutex_);
      launcher_ = launcher;
      launch_ = &launch;
      active_ = count;
      busy_ = count - 1;
      generation_++;
      wake_.notify_all();
    }
    run_blocks(launcher, &launch, workers_[0].get());
    if (count > 1) {
      std::unique_lock<std::mutex> lock(mutex_);
      done_.wait(lock, [this] { return busy_ == 0; });
    }
    return true;
  }

 private:
  void help(unsigned index, uint64_t seen) {
    for (;;) {
      Launcher launcher;
      Launch* launch;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (index >= active_) continue;
        launcher = launcher_;
        launch = launch_;
      }
      run_blocks(launcher, launch, workers_[index].get());
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::unique_ptr<Worker>> workers_;
  uint64_t generation_ = 0;
  unsigned active_ = 0, busy_ = 0;
  Launcher launcher_ = nullptr;
  Launch* launch_ = nullptr;
};

Pool& pool() {
  static Pool* p = new Pool;
  return *p;
}

// ---- checks ---------------------------------------------------------------------------------------------------------

// What every call on the context begins with.
Result enter() {
  if (!driver().initialized) return kNotInitialized;
  if (t_context == nullptr || driver().retained == 0) return kInvalidContext;
  return driver().dead;
}
#define ENTER                                        \
  LOCK;                                              \
  if (const Result entered = enter()) return entered

// A call that waits, or changes what the device has: not while something is captured that it could disturb.
Result outside_capture() {
  for (Stream* s : driver().streams) {
    if (!s->capture || s->capture->mode == 2) continue;
    if (s->capture->mode == 1 && s->capture->thread != std::this_thread::get_id()) continue;
    s->capture->invalid = true;
    return kCaptureUnsupported;
  }
  return kSuccess;
}
#define OUTSIDE_CAPTURE \
  if (const Result capturing = outside_capture()) return capturing

// Waits for another stream's captured work, and so for the legacy stream, are an error (see cuStreamBeginCapture).
Result find_stream(void* handle, Stream** stream) {
  Driver& d = driver();
  if (handle == nullptr || handle == reinterpret_cast<void*>(1) || handle == reinterpret_cast<void*>(2)) {
    for (Stream* s : d.streams) {
      if (s->capture && (s->flags & 1) == 0 && handle != reinterpret_cast<void*>(2)) {
        s->capture->invalid = true;
        return kCaptureImplicit;
      }
    }
    *stream = &d.default_stream;
    return kSuccess;
  }
  Stream* s = static_cast<Stream*>(handle);
  if (d.streams.count(s) == 0) return kInvalidHandle;
  *stream = s;
  return kSuccess;
}
#define STREAM(handle)    \
  Stream* stream = nullptr; \
  if (const Result found = find_stream(handle, &stream)) return found

// Whether [p, p + bytes) lies inside one allocation (or one symbol of a module).
bool on_device(Address p, size_t bytes) {
  auto inside = [&](Address start, size_t size) {
    return p >= start && p - start <= size && bytes <= size - (p - start);
  };
  Driver& d = driver();
  auto after = d.device.upper_bound(p);
  if (after != d.device.begin() && inside(std::prev(after)->first, std::prev(after)->second.bytes)) return true;
  auto global = d.globals.upper_bound(p);
  return global != d.globals.begin() && inside(std::prev(global)->first, std::prev(global)->second);
}

bool is_pinned(const void* p, size_t bytes) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(p);
  Driver& d = driver();
  auto after = d.pinned.upper_bound(at);
  if (after == d.pinned.begin()) return false;
  const auto& piece = *std::prev(after);
  return at - piece.first <= piece.second && bytes <= piece.second - (at - piece.first);
}

Result die(Result code, const std::string& message) {
  driver().dead = code;
  driver().message = message;
  fprintf(stderr, "sccrossrec host driver: %s\n", message.c_str());
  return code;
}

// ---- memory ---------------------------------------------------------------------------------------------------------

constexpr size_t kMargin = 256;         // around an allocation
constexpr unsigned char kMarginByte = 0xA5;

uint64_t memory_size() { return setting("SCX_HOST_MEMORY", uint64_t(8) << 30); }

Result allocate(Address* result, size_t bytes) {
  Driver& d = driver();
  if (result == nullptr || bytes == 0) return kInvalidValue;
  const uint64_t limit = setting("SCX_HOST_FAIL_ALLOC_ABOVE", ~uint64_t(0));
  const uint64_t total = memory_size();
  if (bytes > limit || bytes > total || d.counters.bytes > total - bytes) return kOutOfMemory;
  const size_t margin = sanitized() ? 0 : kMargin;
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes + 2 * margin) != 0) return kOutOfMemory;
  unsigned char* at = static_cast<unsigned char*>(memory) + margin;
  memset(at - margin, kMarginByte, margin);
  memset(at, 0xFF, bytes);
  memset(at + bytes, kMarginByte, margin);
  *result = reinterpret_cast<Address>(at);
  d.device[*result] = {bytes, static_cast<unsigned char*>(memory)};
  d.counters.allocations++;
  d.counters.bytes += bytes;
  d.counters.peak_bytes = std::max(d.counters.peak_bytes, d.counters.bytes);
  return kSuccess;
}

Result release(Address p) {
  Driver& d = driver();
  if (p == 0) return kSuccess;
  auto found = d.device.find(p);
  if (found == d.device.end()) return kInvalidValue;
  d.counters.frees++;
  d.counters.bytes -= found->second.bytes;
  free(found->second.memory);
  d.device.erase(found);
  return kSuccess;
}

// A description of an allocation somebody wrote around; empty: there is none.
std::string overrun() {
  if (sanitized()) return "";
  auto intact = [](const unsigned char* p) {
    for (size_t i = 0; i < kMargin; i++) {
      if (p[i] != kMarginByte) return false;
    }
    return true;
  };
  for (auto& piece : driver().device) {
    unsigned char* before = piece.second.memory;
    unsigned char* behind = before + kMargin + piece.second.bytes;
    const char* side = !intact(behind) ? "behind" : !intact(before) ? "before" : nullptr;
    if (side == nullptr) continue;
    memset(before, kMarginByte, kMargin);
    memset(behind, kMarginByte, kMargin);
    return std::string("a thread wrote ") + side + " an allocation of " + std::to_string(piece.second.bytes) + " bytes";
  }
  return "";
}

// ---- execution ------------------------------------------------------------------------------------------------------

Result execute_kernel(const Node& n) {
  Driver& d = driver();
  Function& f = *n.function;
  if (d.live_functions.count(&f) == 0) return kInvalidHandle;
  d.counters.launches++;
  if (launch_fails_on_purpose()) return die(kLaunchFailed, "kernel " + f.name + ": failed on purpose");
  Launch launch;
  memcpy(launch.grid, n.grid, sizeof launch.grid);
  memcpy(launch.block, n.block, sizeof launch.block);
  launch.shared_bytes = n.shared_bytes;
  launch.args = n.args.data();
  launch.seed = setting("SCX_HOST_SEED", 0);
  const uint64_t blocks = uint64_t(n.grid[0]) * n.grid[1] * n.grid[2];
  static const uint64_t cores = std::max(1u, std::thread::hardware_concurrency());
  const uint64_t workers = f.one_worker ? 1 : std::max<uint64_t>(1, setting("SCX_HOST_THREADS", cores));
  if (!pool().run(f.launcher, launch, unsigned(std::min<uint64_t>({workers, blocks, 1024})))) return kOutOfMemory;
  if (launch.failed.load() != 0) return die(launch.failed.load(), "kernel " + f.name + ": " + launch.message);
  const std::string wrong = overrun();
  if (!wrong.empty()) return die(kIllegalAddress, "kernel " + f.name + ": " + wrong);
  return kSuccess;
}

Result execute(const Node& n) {
  switch (n.kind) {
    case Node::kKernel:
      return execute_kernel(n);
    case Node::kMemset:
      if (n.width == 1) {
        memset(n.to, int(n.value), n.count);
      } else {
        unsigned char* to = static_cast<unsigned char*>(n.to);
        for (size_t i = 0; i < n.count; i++) memcpy(to + i * n.width, &n.value, n.width);
      }
      return kSuccess;
    case Node::kMemcpy:
      memmove(n.to, n.from, n.count);
      return kSuccess;
    case Node::kHost:
      n.call(n.data);
      return kSuccess;
  }
  return kInvalidValue;
}

// Does it now, or notes it in the stream's capture.
Result submit(Stream* stream, Node&& node) {
  if (!stream->capture) return execute(node);
  if (stream->capture->invalid) return kCaptureInvalidated;
  stream->capture->graph->nodes.push_back(std::move(node));
  stream->position++;
  stream->joined = false;
  return kSuccess;
}

enum Side { kHostSide, kDeviceSide };

Result copy(Stream* stream, Side to_side, uintptr_t to, Side from_side, uintptr_t from, size_t bytes) {
  if (bytes == 0) return kSuccess;
  if (to == 0 || from == 0) return kInvalidValue;
  bool pageable = false;
  for (auto end : {std::make_pair(to_side, to), std::make_pair(from_side, from)}) {
    if (end.first == kDeviceSide && !on_device(end.second, bytes)) return kInvalidValue;
    if (end.first == kHostSide && !is_pinned(reinterpret_cast<void*>(end.second), bytes)) pageable = true;
  }
  if (pageable) {
    if (stream != nullptr && stream->capture) {
      stream->capture->invalid = true;
      return kCaptureUnsupported;
    }
    if (stream != nullptr) driver().counters.synchronisations++;  // the host waits for pageable memory
  }
  Node n;
  n.kind = Node::kMemcpy;
  n.to = reinterpret_cast<void*>(to);
  n.from = reinterpret_cast<const void*>(from);
  n.count = bytes;
  if (stream != nullptr) return submit(stream, std::move(n));
  OUTSIDE_CAPTURE;
  driver().counters.synchronisations++;
  return execute(n);
}

Result fill(Stream* stream, Address to, unsigned value, unsigned width, size_t count) {
  if (count == 0) return kSuccess;
  if (to % width != 0 || !on_device(to, count * width)) return kInvalidValue;
  Node n;
  n.kind = Node::kMemset;
  n.to = reinterpret_cast<void*>(to);
  n.value = value;
  n.width = width;
  n.count = count;
  if (stream != nullptr) return submit(stream, std::move(n));
  OUTSIDE_CAPTURE;
  return execute(n);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Frees what the primary context holds.
void destroy_context() {
  Driver& d = driver();
  while (!d.device.empty()) release(d.device.begin()->first);
  d.live_functions.clear();
  d.functions.clear();
  d.globals.clear();
  for (Module* m : d.modules) {
    dlclose(m->library);
    delete m;
  }
  d.modules.clear();
  d.dead = kSuccess;
}

}  // namespace

// ---- this project's own ---------------------------------------------------------------------------------------------

// Launches, graph launches, device allocations and frees, host allocations, synchronisations (waits of the host, copies
// of pageable memory included), bytes allocated now and at most.
API void scx_host_counters(uint64_t out[8]) {
  LOCK;
  memcpy(out, &driver().counters, sizeof(Counters));
}

// Sets a setting, or takes it back to the environment's (null).
API void scx_host_configure(const char* name, const char* value) {
  LOCK;
  if (value == nullptr) {
    g_settings.erase(name);
  } else {
    g_settings[name] = value;
  }
  if (strcmp(name, "SCX_HOST_FAIL_LAUNCH") == 0) g_fail_launch_seen.clear();
}

// Copies the message of the last failed launch, cut to `bytes`; returns its whole length.
API size_t scx_host_message(char* out, size_t bytes) {
  LOCK;
  const std::string& m = driver().message;
  if (bytes > 0) snprintf(out, bytes, "%s", m.c_str());
  return m.size();
}

// ---- driver, device, context ----------------------------------------------------------------------------------------

API Result cuInit(unsigned flags) {
  LOCK;
  if (flags != 0) return kInvalidValue;
  driver().initialized = true;
  return kSuccess;
}

API Result cuDriverGetVersion(int* version) {
  if (version == nullptr) return kInvalidValue;
  *version = 13000;
  return kSuccess;
}

API Result cuGetErrorName(Result code, const char** name) {
  for (const ErrorText& e : kErrors) {
    if (e.code == code) return *name = e.name, kSuccess;
  }
  *name = nullptr;
  return kInvalidValue;
}

API Result cuGetErrorString(Result code, const char** text) {
  for (const ErrorText& e : kErrors) {
    if (e.code == code) return *text = e.text, kSuccess;
  }
  *text = nullptr;
  return kInvalidValue;
}

#define DEVICE(device)                              \
  if (!driver().initialized) return kNotInitialized; \
  if (device != 0) return kInvalidDevice

API Result cuDeviceGetCount(int* count) {
  DEVICE(0);
  *count = 1;
  return kSuccess;
}

API Result cuDeviceGet(int* device, int ordinal) {
  DEVICE(ordinal);
  *device = 0;
  return kSuccess;
}

API Result cuDeviceGetName(char* name, int bytes, int device) {
  DEVICE(device);
  snprintf(name, size_t(bytes), "sccrossrec host driver (CPU)");
  return kSuccess;
}

API Result cuDeviceGetUuid_v2(unsigned char uuid[16], int device) {
  DEVICE(device);
  memcpy(uuid, "sccrossrec-host\0", 16);
  return kSuccess;
}

API Result cuDeviceGetUuid(unsigned char uuid[16], int device) { return cuDeviceGetUuid_v2(uuid, device); }

API Result cuDeviceGetPCIBusId(char* id, int bytes, int device) {
  DEVICE(device);
  snprintf(id, size_t(bytes), "0000:00:00.0");
  return kSuccess;
}

API Result cuDeviceTotalMem_v2(size_t* bytes, int device) {
  LOCK;
  DEVICE(device);
  *bytes = memory_size();
  return kSuccess;
}

API Result cuDeviceComputeCapability(int* major, int* minor, int device) {
  DEVICE(device);
  *major = 9;
  *minor = 0;
  return kSuccess;
}

// The numbers of an H100 where a program may plan with them; what this driver does not have is 0.
API Result cuDeviceGetAttribute(int* value, int attribute, int device) {
  DEVICE(device);
  static const std::unordered_map<int, int> values = {
      {1, 1024},           // threads a block
      {2, 1024},           // block x
      {3, 1024},           // block y
      {4, 64},             // block z
      {5, 2147483647},     // grid x
      {6, 65535},          // grid y
      {7, 65535},          // grid z
      {8, 49152},          // shared memory a block
      {9, 65536},          // constant memory
      {10, 32},            // warp size
      {11, 2147483647},    // pitch
      {12, 65536},         // registers a block
      {13, 1980000},       // clock, kHz
      {14, 512},           // texture alignment
      {15, 1},             // copies beside kernels
      {16, 132},           // multiprocessors
      {19, 1},             // can map host memory
      {31, 1},             // concurrent kernels
      {36, 2619000},       // memory clock, kHz
      {37, 5120},          // memory bus, bits
      {38, 50 << 20},      // L2 cache
      {39, 2048},          // threads a multiprocessor
      {40, 3},             // copy engines
      {41, 1},             // unified addressing
      {75, 9},             // compute capability
      {76, 0},
      {78, 1},             // stream priorities
      {79, 1},             // L1 for global memory
      {80, 1},             // L1 for local memory
      {81, 233472},        // shared memory a multiprocessor
      {82, 65536},         // registers a multiprocessor
      {90, 1},             // compute preemption
      {97, 232448},        // shared memory a block may opt in to
      {106, 32},           // blocks a multiprocessor
      {108, 32768000},     // persisting L2
      {109, 134213632},    // access policy window
      {111, 1024},         // shared memory reserved a block
      {115, 0},            // memory pools
  };
  auto found = values.find(attribute);
  *value = found == values.end() ? 0 : found->second;
  return kSuccess;
}

API Result cuDevicePrimaryCtxRetain(void** context, int device) {
  LOCK;
  DEVICE(device);
  driver().retained++;
  *context = &g_context;
  return kSuccess;
}

API Result cuDevicePrimaryCtxRelease_v2(int device) {
  LOCK;
  DEVICE(device);
  if (driver().retained == 0) return kInvalidContext;
  if (--driver().retained == 0) destroy_context();
  return kSuccess;
}

API Result cuDevicePrimaryCtxReset_v2(int device) {
  LOCK;
  DEVICE(device);
  destroy_context();
  return kSuccess;
}

API Result cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
  LOCK;
  DEVICE(device);
  *flags = driver().context_flags;
  *active = driver().retained != 0;
  return kSuccess;
}

API Result cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
  LOCK;
  DEVICE(device);
  driver().context_flags = flags;
  return kSuccess;
}

API Result cuCtxSetCurrent(void* context) {
  LOCK;
  if (!driver().initialized) return kNotInitialized;
  if (context != nullptr && (context != &g_context || driver().retained == 0)) return kInvalidContext;
  t_context = context;
  return kSuccess;
}

API Result cuCtxGetCurrent(void** context) {
  LOCK;
  if (!driver().initialized) return kNotInitialized;
  *context = driver().retained == 0 ? nullptr : t_context;
  return kSuccess;
}

API Result cuCtxPushCurrent_v2(void* context) { return cuCtxSetCurrent(context); }

API Result cuCtxPopCurrent_v2(void** context) {
  *context = t_context;
  t_context = nullptr;
  return kSuccess;
}

API Result cuCtxGetDevice(int* device) {
  ENTER;
  *device = 0;
  return kSuccess;
}

API Result cuCtxGetApiVersion(void*, unsigned* version) {
  *version = 13000;
  return kSuccess;
}

API Result cuCtxSynchronize() {
  ENTER;
  OUTSIDE_CAPTURE;
  driver().counters.synchronisations++;
  return kSuccess;
}

API Result cuCtxSetFlags(unsigned flags) {
  ENTER;
  driver().context_flags = flags;
  return kSuccess;
}

API Result cuCtxGetFlags(unsigned* flags) {
  ENTER;
  *flags = driver().context_flags;
  return kSuccess;
}

API Result cuCtxGetLimit(size_t* value, int limit) {
  ENTER;
  const std::unordered_map<int, size_t> usual = {{0, 1024}, {1, 1 << 20}, {2, 8 << 20}, {5, 128}, {6, 0}};
  if (usual.count(limit) == 0) return kUnsupportedLimit;
  *value = driver().limits.count(limit) != 0 ? driver().limits[limit] : usual.at(limit);
  return kSuccess;
}

API Result cuCtxSetLimit(int limit, size_t value) {
  ENTER;
  if (limit < 0 || limit > 6) return kUnsupportedLimit;
  driver().limits[limit] = value;
  return kSuccess;
}

API Result cuCtxGetCacheConfig(int* config) {
  ENTER;
  *config = 0;
  return kSuccess;
}

API Result cuCtxSetCacheConfig(int) {
  ENTER;
  return kSuccess;
}

API Result cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  ENTER;
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return kSuccess;
}

API Result cuProfilerStart() {
  ENTER;
  return kSuccess;
}

API Result cuProfilerStop() {
  ENTER;
  return kSuccess;
}

// ---- memory ---------------------------------------------------------------------------------------------------------

API Result cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  ENTER;
  *total = memory_size();
  *free_bytes = *total - std::min<size_t>(*total, driver().counters.bytes);
  return kSuccess;
}

API Result cuMemAlloc_v2(Address* p, size_t bytes) {
  ENTER;
  OUTSIDE_CAPTURE;
  return allocate(p, bytes);
}

// Also where the context is dead, so that nothing leaks; the call still says so.
API Result cuMemFree_v2(Address p) {
  LOCK;
  const Result entered = enter();
  if (entered == kNotInitialized || entered == kInvalidContext) return entered;
  OUTSIDE_CAPTURE;
  const Result freed = release(p);
  return entered != kSuccess ? entered : freed;
}

// Allocations in stream order would become nodes of a graph; this driver has no memory pools and refuses them there.
API Result cuMemAllocAsync(Address* p, size_t bytes, void* handle) {
  ENTER;
  STREAM(handle);
  if (stream->capture) return stream->capture->invalid = true, kCaptureUnsupported;
  return allocate(p, bytes);
}

API Result cuMemFreeAsync(Address p, void* handle) {
  ENTER;
  STREAM(handle);
  if (stream->capture) return stream->capture->invalid = true, kCaptureUnsupported;
  return release(p);
}

API Result cuMemHostAlloc(void** p, size_t bytes, unsigned) {
  ENTER;
  OUTSIDE_CAPTURE;
  if (bytes == 0) return kInvalidValue;
  if (posix_memalign(p, 4096, bytes) != 0) return kOutOfMemory;
  memset(*p, 0xFF, bytes);
  driver().pinned[reinterpret_cast<uintptr_t>(*p)] = bytes;
  driver().counters.host_allocations++;
  return kSuccess;
}

API Result cuMemAllocHost_v2(void** p, size_t bytes) { return cuMemHostAlloc(p, bytes, 0); }

API Result cuMemFreeHost(void* p) {
  LOCK;
  auto found = driver().pinned.find(reinterpret_cast<uintptr_t>(p));
  if (found == driver().pinned.end()) return kInvalidValue;
  OUTSIDE_CAPTURE;
  driver().pinned.erase(found);
  free(p);
  return driver().dead;
}

API Result cuMemHostGetFlags(unsigned* flags, void* p) {
  ENTER;
  if (!is_pinned(p, 1)) return kInvalidValue;
  *flags = 0;
  return kSuccess;
}

API Result cuMemHostGetDevicePointer_v2(Address* device, void* p, unsigned) {
  ENTER;
  if (!is_pinned(p, 1)) return kInvalidValue;
  *device = reinterpret_cast<Address>(p);
  return kSuccess;
}

API Result cuMemHostRegister_v2(void* p, size_t bytes, unsigned) {
  ENTER;
  OUTSIDE_CAPTURE;
  if (p == nullptr || bytes == 0) return kInvalidValue;
  driver().pinned[reinterpret_cast<uintptr_t>(p)] = bytes;
  return kSuccess;
}

API Result cuMemHostUnregister(void* p) {
  LOCK;
  return driver().pinned.erase(reinterpret_cast<uintptr_t>(p)) != 0 ? driver().dead : kInvalidValue;
}

API Result cuMemGetAddressRange_v2(Address* base, size_t* bytes, Address p) {
  ENTER;
  auto after = driver().device.upper_bound(p);
  if (after == driver().device.begin() || !on_device(p, 1)) return kInvalidValue;
  if (base != nullptr) *base = std::prev(after)->first;
  if (bytes != nullptr) *bytes = std::prev(after)->second.bytes;
  return kSuccess;
}

API Result cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
  ENTER;
  return copy(nullptr, kDeviceSide, to, kHostSide, reinterpret_cast<uintptr_t>(from), bytes);
}

API Result cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
  ENTER;
  return copy(nullptr, kHostSide, reinterpret_cast<uintptr_t>(to), kDeviceSide, from, bytes);
}

API Result cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
  ENTER;
  return copy(nullptr, kDeviceSide, to, kDeviceSide, from, bytes);
}

API Result cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* handle) {
  ENTER;
  STREAM(handle);
  return copy(stream, kDeviceSide, to, kHostSide, reinterpret_cast<uintptr_t>(from), bytes);
}

API Result cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* handle) {
  ENTER;
  STREAM(handle);
  return copy(stream, kHostSide, reinterpret_cast<uintptr_t>(to), kDeviceSide, from, bytes);
}

API Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* handle) {
  ENTER;
  STREAM(handle);
  return copy(stream, kDeviceSide, to, kDeviceSide, from, bytes);
}

API Result cuMemcpyPeerAsync(Address to, void*, Address from, void*, size_t bytes, void* handle) {
  return cuMemcpyDtoDAsync_v2(to, from, bytes, handle);
}

namespace {
Side side_of(Address p) { return on_device(p, 1) ? kDeviceSide : kHostSide; }
}  // namespace

API Result cuMemcpy(Address to, Address from, size_t bytes) {
  ENTER;
  return copy(nullptr, side_of(to), to, side_of(from), from, bytes);
}

API Result cuMemcpyAsync(Address to, Address from, size_t bytes, void* handle) {
  ENTER;
  STREAM(handle);
  return copy(stream, side_of(to), to, side_of(from), from, bytes);
}

API Result cuMemsetD8_v2(Address to, unsigned char value, size_t count) {
  ENTER;
  return fill(nullptr, to, value, 1, count);
}

API Result cuMemsetD16_v2(Address to, unsigned short value, size_t count) {
  ENTER;
  return fill(nullptr, to, value, 2, count);
}

API Result cuMemsetD32_v2(Address to, unsigned value, size_t count) {
  ENTER;
  return fill(nullptr, to, value, 4, count);
}

API Result cuMemsetD8Async(Address to, unsigned char value, size_t count, void* handle) {
  ENTER;
  STREAM(handle);
  return fill(stream, to, value, 1, count);
}

API Result cuMemsetD16Async(Address to, unsigned short value, size_t count, void* handle) {
  ENTER;
  STREAM(handle);
  return fill(stream, to, value, 2, count);
}

API Result cuMemsetD32Async(Address to, unsigned value, size_t count, void* handle) {
  ENTER;
  STREAM(handle);
  return fill(stream, to, value, 4, count);
}

API Result cuPointerGetAttribute(void* data, int attribute, Address p) {
  ENTER;
  const bool device = on_device(p, 1);
  if (!device && !is_pinned(reinterpret_cast<void*>(p), 1)) return kInvalidValue;
  if (attribute != 2) return kNotSupported;
  *static_cast<unsigned*>(data) = device ? 2 : 1;  // CU_MEMORYTYPE
  return kSuccess;
}

// ---- streams and events ---------------------------------------------------------------------------------------------

API Result cuStreamCreateWithPriority(void** handle, unsigned flags, int priority) {
  ENTER;
  if (handle == nullptr || flags > 1) return kInvalidValue;
  Stream* s = new Stream;
  s->flags = flags;
  s->priority = std::max(-5, std::min(0, priority));
  driver().streams.insert(s);
  *handle = s;
  return kSuccess;
}

API Result cuStreamCreate(void** handle, unsigned flags) { return cuStreamCreateWithPriority(handle, flags, 0); }

API Result cuStreamDestroy_v2(void* handle) {
  LOCK;
  Stream* s = static_cast<Stream*>(handle);
  if (driver().streams.count(s) == 0) return kInvalidHandle;
  if (s->capture) {
    s->capture->invalid = true;
    s->capture->streams.erase(s);
  }
  driver().streams.erase(s);
  delete s;
  return driver().dead;
}

API Result cuStreamSynchronize(void* handle) {
  ENTER;
  STREAM(handle);
  if (stream->capture) return stream->capture->invalid = true, kCaptureUnsupported;
  driver().counters.synchronisations++;
  return kSuccess;
}

API Result cuStreamQuery(void* handle) {
  ENTER;
  STREAM(handle);
  if (stream->capture) return stream->capture->invalid = true, kCaptureUnsupported;
  return kSuccess;
}

API Result cuStreamGetFlags(void* handle, unsigned* flags) {
  ENTER;
  STREAM(handle);
  *flags = stream->flags;
  return kSuccess;
}

API Result cuStreamGetPriority(void* handle, int* priority) {
  ENTER;
  STREAM(handle);
  *priority = stream->priority;
  return kSuccess;
}

API Result cuStreamGetCtx(void*, void** context) {
  ENTER;
  *context = &g_context;
  return kSuccess;
}

#define EVENT(handle)                                                   \
  Event* event = static_cast<Event*>(handle);                            \
  if (driver().events.count(event) == 0) return kInvalidHandle

API Result cuEventCreate(void** handle, unsigned flags) {
  ENTER;
  Event* e = new Event;
  e->flags = flags;
  driver().events.insert(e);
  *handle = e;
  return kSuccess;
}

API Result cuEventDestroy_v2(void* handle) {
  LOCK;
  EVENT(handle);
  driver().events.erase(event);
  delete event;
  return driver().dead;
}

API Result cuEventRecord(void* handle, void* stream_handle) {
  ENTER;
  EVENT(handle);
  STREAM(stream_handle);
  if (stream->capture && stream->capture->invalid) return kCaptureInvalidated;
  event->recorded = true;
  event->seconds = now();
  event->capture = stream->capture;
  event->stream = stream;
  event->position = stream->position;
  return kSuccess;
}

API Result cuEventRecordWithFlags(void* handle, void* stream_handle, unsigned) {
  return cuEventRecord(handle, stream_handle);
}

API Result cuEventQuery(void* handle) {
  ENTER;
  EVENT(handle);
  return event->capture ? kCapturedEvent : kSuccess;
}

API Result cuEventSynchronize(void* handle) {
  ENTER;
  EVENT(handle);
  if (event->capture) return kCapturedEvent;
  driver().counters.synchronisations++;
  return kSuccess;
}

API Result cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
  ENTER;
  Event* events[2] = {static_cast<Event*>(start), static_cast<Event*>(end)};
  for (Event* e : events) {
    if (driver().events.count(e) == 0 || !e->recorded || (e->flags & 2) != 0) return kInvalidHandle;
    if (e->capture) return kCapturedEvent;
  }
  *milliseconds = float((events[1]->seconds - events[0]->seconds) * 1e3);
  return kSuccess;
}

API Result cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}

API Result cuStreamWaitEvent(void* handle, void* event_handle, unsigned) {
  ENTER;
  EVENT(event_handle);
  STREAM(handle);
  if (!event->recorded) return kSuccess;
  if (!event->capture) {
    if (!stream->capture) return kSuccess;
    stream->capture->invalid = true;
    return kCaptureIsolation;
  }
  if (event->capture->invalid || event->capture->streams.empty()) return kCaptureInvalidated;
  if (stream->capture && stream->capture != event->capture) {
    stream->capture->invalid = event->capture->invalid = true;
    return kCaptureMerge;
  }
  if (stream == &driver().default_stream) return kCaptureImplicit;
  if (!stream->capture) {  // from here this stream is part of the capture
    stream->capture = event->capture;
    stream->capture->streams.insert(stream);
    stream->position = 0;
    stream->joined = false;
  }
  if (event->stream != stream && event->capture->streams.count(event->stream) != 0 &&
      event->position == event->stream->position) {
    event->stream->joined = true;
    stream->joined = false;
  }
  return kSuccess;
}

API Result cuLaunchHostFunc(void* handle, void (*call)(void*), void* data) {
  ENTER;
  STREAM(handle);
  Node n;
  n.kind = Node::kHost;
  n.call = call;
  n.data = data;
  return submit(stream, std::move(n));
}

// ---- capture and graphs ---------------------------------------------------------------------------------------------

API Result cuStreamBeginCapture_v2(void* handle, int mode) {
  ENTER;
  STREAM(handle);
  if (mode < 0 || mode > 2) return kInvalidValue;
  if (stream == &driver().default_stream) return kCaptureUnsupported;
  if (stream->capture) return kInvalidValue;
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  stream->capture->streams.insert(stream);
  stream->position = 0;
  stream->joined = false;
  return kSuccess;
}

API Result cuStreamEndCapture(void* handle, void** graph) {
  ENTER;
  STREAM(handle);
  *graph = nullptr;
  std::shared_ptr<Capture> capture = stream->capture;
  if (!capture) return 401;  // CUDA_ERROR_ILLEGAL_STATE
  if (capture->mode == 1 && capture->thread != std::this_thread::get_id()) return kCaptureWrongThread;
  if (capture->origin != stream) {
    capture->invalid = true;
    return kCaptureUnmatched;
  }
  bool unjoined = false;
  for (Stream* s : capture->streams) {
    if (s != stream && !s->joined) unjoined = true;
    s->capture.reset();
  }
  capture->streams.clear();
  if (capture->invalid) return kCaptureInvalidated;
  if (unjoined) return kCaptureUnjoined;
  Graph* g = capture->graph.release();
  driver().graphs.insert(g);
  *graph = g;
  return kSuccess;
}

API Result cuStreamIsCapturing(void* handle, int* status) {
  ENTER;
  STREAM(handle);
  *status = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
  return kSuccess;
}

API Result cuThreadExchangeStreamCaptureMode(int* mode) {
  static thread_local int current = 0;
  std::swap(current, *mode);
  return kSuccess;
}

API Result cuGraphCreate(void** graph, unsigned) {
  ENTER;
  Graph* g = new Graph;
  driver().graphs.insert(g);
  *graph = g;
  return kSuccess;
}

API Result cuGraphGetNodes(void* graph, void** nodes, size_t* count) {
  ENTER;
  Graph* g = static_cast<Graph*>(graph);
  if (driver().graphs.count(g) == 0) return kInvalidHandle;
  if (nodes != nullptr) {
    for (size_t i = 0; i < *count; i++) nodes[i] = i < g->nodes.size() ? &g->nodes[i] : nullptr;
    *count = std::min(*count, g->nodes.size());
  } else {
    *count = g->nodes.size();
  }
  return kSuccess;
}

// CU_GRAPH_NODE_TYPE_KERNEL, MEMCPY, MEMSET, HOST.
API Result cuGraphNodeGetType(void* node, int* type) {
  ENTER;
  switch (static_cast<Node*>(node)->kind) {
    case Node::kKernel: *type = 0; break;
    case Node::kMemcpy: *type = 1; break;
    case Node::kMemset: *type = 2; break;
    case Node::kHost: *type = 3; break;
  }
  return kSuccess;
}

API Result cuGraphDestroy(void* graph) {
  LOCK;
  Graph* g = static_cast<Graph*>(graph);
  if (driver().graphs.erase(g) == 0) return kInvalidHandle;
  delete g;
  return driver().dead;
}

API Result cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long flags) {
  ENTER;
  Graph* g = static_cast<Graph*>(graph);
  if (driver().graphs.count(g) == 0) return kInvalidHandle;
  if ((flags & ~0xfull) != 0 || (flags & 5) == 5) return kInvalidValue;
  Graph* e = new Graph(*g);
  driver().executables.insert(e);
  *executable = e;
  return kSuccess;
}

API Result cuGraphExecDestroy(void* executable) {
  LOCK;
  Graph* e = static_cast<Graph*>(executable);
  if (driver().executables.erase(e) == 0) return kInvalidHandle;
  delete e;
  return driver().dead;
}

API Result cuGraphUpload(void* executable, void* handle) {
  ENTER;
  STREAM(handle);
  return driver().executables.count(static_cast<Graph*>(executable)) != 0 ? kSuccess : kInvalidHandle;
}

API Result cuGraphLaunch(void* executable, void* handle) {
  ENTER;
  STREAM(handle);
  Graph* e = static_cast<Graph*>(executable);
  if (driver().executables.count(e) == 0) return kInvalidHandle;
  if (stream->capture) return stream->capture->invalid = true, kCaptureUnsupported;
  driver().counters.graph_launches++;
  for (const Node& n : e->nodes) {
    if (const Result failed = execute(n)) return failed;
  }
  return kSuccess;
}

// ---- modules and launches -------------------------------------------------------------------------------------------

API Result cuModuleLoadData(void** module, const void* image) {
  ENTER;
  OUTSIDE_CAPTURE;
  static const char mark[] = "SCXHOST:";
  if (image == nullptr || strncmp(static_cast<const char*>(image), mark, sizeof mark - 1) != 0) return kInvalidImage;
  const char* path = static_cast<const char*>(image) + sizeof mark - 1;
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fprintf(stderr, "sccrossrec host driver: %s\n", dlerror());
    return kFileNotFound;
  }
  const int* abi = static_cast<const int*>(dlsym(library, "scx_host_abi"));
  if (abi == nullptr || *abi != scx_host::kAbi) {
    dlclose(library);
    return kInvalidImage;
  }
  Module* m = new Module{library};
  driver().modules.insert(m);
  *module = m;
  return kSuccess;
}

API Result cuModuleLoadDataEx(void** module, const void* image, unsigned, int*, void**) {
  return cuModuleLoadData(module, image);
}

API Result cuModuleLoad(void** module, const char* path) {
  std::string image;
  FILE* file = fopen(path, "rb");
  if (file == nullptr) return kFileNotFound;
  char piece[4096];
  for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0 && image.size() < 65536;) image.append(piece, n);
  fclose(file);
  return cuModuleLoadData(module, image.c_str());
}

API Result cuModuleUnload(void* module) {
  LOCK;
  Driver& d = driver();
  Module* m = static_cast<Module*>(module);
  if (d.modules.erase(m) == 0) return kInvalidHandle;
  for (auto& f : d.functions) {
    if (f->module == m) d.live_functions.erase(f.get());
  }
  for (auto g = d.globals.begin(); g != d.globals.end();) {
    Dl_info info;
    struct link_map* map = nullptr;
    const bool here = dladdr(reinterpret_cast<void*>(g->first), &info) != 0 &&
                      dlinfo(m->library, RTLD_DI_LINKMAP, &map) == 0 &&
                      reinterpret_cast<uintptr_t>(info.dli_fbase) == map->l_addr;
    g = here ? d.globals.erase(g) : std::next(g);
  }
  dlclose(m->library);
  delete m;
  return d.dead;
}

API Result cuModuleGetFunction(void** function, void* module, const char* name) {
  ENTER;
  Driver& d = driver();
  Module* m = static_cast<Module*>(module);
  if (d.modules.count(m) == 0) return kInvalidHandle;
  const std::string base = name;
  void* launcher = dlsym(m->library, (base + "__host").c_str());
  const void* args_size = dlsym(m->library, (base + "__args_size").c_str());
  if (launcher == nullptr || args_size == nullptr) return kNotFound;
  std::unique_ptr<Function> f(new Function);
  f->module = m;
  f->name = base;
  f->launcher = reinterpret_cast<Launcher>(launcher);
  f->args_size = *static_cast<const size_t*>(args_size);
  const unsigned* shape = static_cast<const unsigned*>(dlsym(m->library, (base + "_shape").c_str()));
  f->max_threads = shape == nullptr ? scx_host::kMaxThreads : std::min(shape[0], scx_host::kMaxThreads);
  const int* one_worker = static_cast<const int*>(dlsym(m->library, "scx_host_one_worker"));
  f->one_worker = one_worker != nullptr && *one_worker != 0;
  *function = f.get();
  d.live_functions.insert(f.get());
  d.functions.push_back(std::move(f));
  return kSuccess;
}

API Result cuModuleGetGlobal_v2(Address* p, size_t* bytes, void* module, const char* name) {
  ENTER;
  Module* m = static_cast<Module*>(module);
  if (driver().modules.count(m) == 0) return kInvalidHandle;
  void* at = dlsym(m->library, name);
  Dl_info info;
  void* entry = nullptr;
  if (at == nullptr || dladdr1(at, &info, &entry, RTLD_DL_SYMENT) == 0 || entry == nullptr) return kNotFound;
  const size_t size = static_cast<const ElfW(Sym)*>(entry)->st_size;
  driver().globals[reinterpret_cast<Address>(at)] = size;
  if (p != nullptr) *p = reinterpret_cast<Address>(at);
  if (bytes != nullptr) *bytes = size;
  return kSuccess;
}

#define FUNCTION(handle)                                                       \
  Function* f = static_cast<Function*>(handle);                                 \
  if (driver().live_functions.count(f) == 0) return kInvalidHandle

API Result cuFuncGetName(const char** name, void* function) {
  ENTER;
  FUNCTION(function);
  *name = f->name.c_str();
  return kSuccess;
}

API Result cuFuncGetModule(void** module, void* function) {
  ENTER;
  FUNCTION(function);
  *module = f->module;
  return kSuccess;
}

API Result cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* size) {
  ENTER;
  FUNCTION(function);
  if (index != 0) return kInvalidValue;
  if (offset != nullptr) *offset = 0;
  if (size != nullptr) *size = f->args_size;
  return kSuccess;
}

API Result cuFuncGetAttribute(int* value, int attribute, void* function) {
  ENTER;
  FUNCTION(function);
  switch (attribute) {
    case 0: *value = int(f->max_threads); break;
    case 4: *value = 32; break;               // registers
    case 5: case 6: *value = 90; break;       // PTX and binary version
    case 8: *value = int(f->max_dynamic); break;
    case 9: *value = -1; break;               // carveout: default
    default: *value = 0;
  }
  return kSuccess;
}

API Result cuFuncSetAttribute(void* function, int attribute, int value) {
  ENTER;
  FUNCTION(function);
  if (attribute == 8) {
    if (value < 0 || size_t(value) > scx_host::kMaxShared) return kInvalidValue;
    f->max_dynamic = std::max<size_t>(48 << 10, size_t(value));
  }
  return kSuccess;
}

API Result cuFuncSetCacheConfig(void* function, int) {
  ENTER;
  FUNCTION(function);
  return kSuccess;
}

API Result cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared_bytes, void* handle, void** params,
                          void** extra) {
  ENTER;
  FUNCTION(function);
  STREAM(handle);
  if (grid_x == 0 || grid_y == 0 || grid_z == 0 || block_x == 0 || block_y == 0 || block_z == 0) return kInvalidValue;
  if (grid_x > 2147483647u || grid_y > 65535 || grid_z > 65535) return kInvalidValue;
  if (block_x > 1024 || block_y > 1024 || block_z > 64) return kInvalidValue;
  if (uint64_t(block_x) * block_y * block_z > f->max_threads || shared_bytes > f->max_dynamic) return kInvalidValue;
  Node n;
  n.kind = Node::kKernel;
  n.function = f;
  const unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
  memcpy(n.grid, grid, sizeof grid);
  memcpy(n.block, block, sizeof block);
  n.shared_bytes = shared_bytes;
  const void* args = params != nullptr ? params[0] : nullptr;
  for (void** e = extra; args == nullptr && e != nullptr && e[0] != nullptr; e += 2) {
    if (e[0] == reinterpret_cast<void*>(1)) args = e[1];  // CU_LAUNCH_PARAM_BUFFER_POINTER
  }
  if (args == nullptr) return kInvalidValue;
  n.args.resize((f->args_size + 7) / 8);
  memcpy(n.args.data(), args, f->args_size);
  return submit(stream, std::move(n));
}

// CUlaunchConfig: three grid and three block sizes, shared memory, stream, attributes (none of which is known here).
struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};

API Result cuLaunchKernelEx(const LaunchConfig* c, void* function, void** params, void** extra) {
  if (c == nullptr) return kInvalidValue;
  return cuLaunchKernel(function, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2],
                        c->shared_bytes, c->stream, params, extra);
}

API Result cuLaunchCooperativeKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*,
                                     void**) {
  return kNotSupported;  // blocks do not run side by side
}

namespace {

int blocks_at_once(const Function& f, int threads, size_t shared_bytes) {
  if (threads <= 0 || unsigned(threads) > f.max_threads || shared_bytes > f.max_dynamic) return 0;
  const size_t rounded = size_t(threads + 31) / 32 * 32;
  return int(std::min<size_t>({32, 2048 / rounded, 233472 / (shared_bytes + 1024)}));
}

}  // namespace

API Result cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, void* function, int threads,
                                                                size_t shared_bytes, unsigned) {
  ENTER;
  FUNCTION(function);
  *blocks = blocks_at_once(*f, threads, shared_bytes);
  return kSuccess;
}

API Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function, int threads, size_t shared_bytes) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared_bytes, 0);
}

API Result cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid, int* threads, void* function,
                                                     size_t (*shared_of)(int), size_t shared_bytes, int limit,
                                                     unsigned) {
  ENTER;
  FUNCTION(function);
  int best = 0;
  *threads = *grid = 0;
  const int most = limit > 0 ? std::min(limit, int(f->max_threads)) : int(f->max_threads);
  for (int t = most / 32 * 32; t >= 32; t -= 32) {
    const int blocks = blocks_at_once(*f, t, shared_of != nullptr ? shared_of(t) : shared_bytes);
    if (blocks * t <= best) continue;
    best = blocks * t;
    *threads = t;
    *grid = 132 * blocks;
  }
  return kSuccess;
}

API Result cuOccupancyMaxPotentialBlockSize(int* grid, int* threads, void* function, size_t (*shared_of)(int),
                                            size_t shared_bytes, int limit) {
  return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, threads, function, shared_of, shared_bytes, limit, 0);
}

API Result cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, void* function, int blocks, int) {
  ENTER;
  FUNCTION(function);
  if (blocks <= 0) return kInvalidValue;
  *bytes = std::min<size_t>(scx_host::kMaxShared, 233472 / size_t(blocks) - 1024);
  return kSuccess;
}
