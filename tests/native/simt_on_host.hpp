// Runs a kernel's own source on the host: every thread of a block is a fiber, and warps meet at shuffles and barriers.
//
// Blocks run one after another, or in turns where a launch needs all of them at once. A thread that does not come to a shuffle of
// its warp or to a barrier of its block, or that waits for what nobody will write, is what hangs a GPU; here it aborts. What
// this cannot show: memory ordering, speed.

#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

struct uint2 { uint32_t x, y; } __attribute__((aligned(8)));
struct uint4 { uint32_t x, y, z, w; } __attribute__((aligned(16)));
struct float2 { float x, y; } __attribute__((aligned(8)));
struct dim3 {
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  unsigned x, y, z;
};

inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

#define __global__
#define __grid_constant__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local

inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
using std::max;
using std::min;

namespace simt {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 64 * 1024;
// Rounds over all threads in which none came to a barrier, after which none will. Threads that look for what others write
// take a round a look.
constexpr int PATIENCE = 10000;

struct Barrier {
  int arrived = 0;
  unsigned generation = 0;
};

// A thread of a block. It is entered once, and then runs the body of every block in turn.
struct Fiber {
  ucontext_t entry;
  jmp_buf resume;
  std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
  bool entered = false;
  bool done = false;
};

// One block of threads at a time, all run by the OS thread that launched the kernel.
class Block {
 public:
  explicit Block(int threads) : fibers_(static_cast<size_t>(threads)), warps_(static_cast<size_t>(threads / WARP)) {
    for (Fiber &fiber : fibers_) {
      getcontext(&fiber.entry);
      fiber.entry.uc_stack.ss_sp = fiber.stack.get();
      fiber.entry.uc_stack.ss_size = STACK_BYTES;
      makecontext(&fiber.entry, &Block::enter, 0);
    }
  }

  void begin(const std::function<void()> &body, dim3 index, size_t shared_bytes) {
    body_ = &body;
    block_index_ = index;
    for (Fiber &fiber : fibers_) fiber.done = false;
    running_ = fibers_.size();
    // As on a device, shared memory begins with whatever was there; its end is watched.
    shared_.assign(shared_bytes + GUARD_BYTES, static_cast<char>(0xa5));
  }

  // Runs every thread until it waits. Whether one of them came to a barrier or to its end.
  bool take_turn() {
    current = this;
    blockIdx = block_index_;
    blockDim = dim3(static_cast<unsigned>(fibers_.size()));
    progress_ = false;
    for (index_ = 0; index_ < fibers_.size(); index_++) {
      if (fibers_[index_].done) continue;
      threadIdx = dim3(static_cast<unsigned>(index_));
      if (_setjmp(scheduler_) == 0) resume(fibers_[index_]);
      if (fibers_[index_].done) running_--;
    }
    return progress_;
  }

  bool is_running() {
    if (running_ > 0) return true;
    const auto *const guard = shared_.data() + shared_.size() - GUARD_BYTES;
    if (!std::all_of(guard, guard + GUARD_BYTES, [](char byte) { return byte == static_cast<char>(0xa5); })) {
      std::fprintf(stderr, "something was written past the end of shared memory\n");
      std::abort();
    }
    return false;
  }

  char *shared_memory() { return shared_.data(); }

  void synchronize() { wait(barrier_, static_cast<int>(fibers_.size())); }
  void synchronize_warp() { wait(warps_[index_ / WARP].barrier, WARP); }

  // What every lane of the warp passed, to be read before the next call. Two buffers in turn: nobody writes one before
  // everybody has read it.
  template <typename T>
  const T *gather(const T &value) {
    static_assert(sizeof(T) <= SLOT_BYTES, "a slot holds one value");
    Warp &warp = warps_[index_ / WARP];
    T *const slots = reinterpret_cast<T *>(warp.slots[warp.barrier.generation % 2]);
    slots[index_ % WARP] = value;
    wait(warp.barrier, WARP);
    return slots;
  }

  // Lets the others write what this thread looks for.
  void look_again() { yield(fibers_[index_]); }

  static inline thread_local Block *current = nullptr;

 private:
  static constexpr size_t SLOT_BYTES = 32, GUARD_BYTES = 64;

  struct Warp {
    Barrier barrier;
    alignas(16) char slots[2][WARP * SLOT_BYTES];
  };

  static void enter() {
    Block &block = *current;
    Fiber &own = block.fibers_[block.index_];
    for (;;) {
      (*block.body_)();
      own.done = true;
      block.progress_ = true;
      block.yield(own);
    }
  }

  // _setjmp leaves the signal mask alone, so that a switch needs no system call.
  [[noreturn]] static void resume(Fiber &fiber) {
    if (fiber.entered) _longjmp(fiber.resume, 1);
    fiber.entered = true;
    setcontext(&fiber.entry);
    std::abort();
  }

  void yield(Fiber &own) {
    if (_setjmp(own.resume) == 0) _longjmp(scheduler_, 1);
  }

  void wait(Barrier &barrier, int expected) {
    const unsigned generation = barrier.generation;
    progress_ = true;
    if (++barrier.arrived == expected) {
      barrier.arrived = 0;
      barrier.generation++;
      return;
    }
    Fiber &own = fibers_[index_];
    while (barrier.generation == generation) yield(own);
  }

  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  Barrier barrier_;
  jmp_buf scheduler_;
  const std::function<void()> *body_ = nullptr;
  dim3 block_index_;
  std::vector<char> shared_;
  size_t index_ = 0, running_ = 0;
  bool progress_ = false;
};

inline void give_up() {
  std::fprintf(stderr, "a thread did not come to a shuffle or barrier of the others, or what it waits for does not come\n");
  std::abort();
}

inline void launch(dim3 grid, int threads, size_t shared_bytes, bool together, const std::function<void()> &body) {
  static thread_local std::map<int, std::vector<std::unique_ptr<Block>>> blocks;
  std::vector<std::unique_ptr<Block>> &own = blocks[threads];
  const size_t at_once = together ? static_cast<size_t>(grid.x) * grid.y : 1;
  while (own.size() < at_once) own.push_back(std::make_unique<Block>(threads));
  gridDim = grid;
  std::vector<Block *> running;
  for (unsigned i = 0; i < grid.x * grid.y; i++) {
    running.push_back(own[together ? i : 0].get());
    running.back()->begin(body, dim3(i % grid.x, i / grid.x), shared_bytes);
    if (running.size() < at_once) continue;
    for (int idle = 0; !running.empty();) {
      bool progress = false;
      for (Block *block : running) progress = block->take_turn() || progress;
      running.erase(std::remove_if(running.begin(), running.end(), [](Block *block) { return !block->is_running(); }),
                    running.end());
      idle = progress ? 0 : idle + 1;
      if (idle > PATIENCE) give_up();
    }
  }
}

}  // namespace simt

inline void __syncthreads() { simt::Block::current->synchronize(); }
inline void __syncwarp() { simt::Block::current->synchronize_warp(); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  if (mask != 0xffffffffu) std::abort();
  return simt::Block::current->gather(value)[threadIdx.x % simt::WARP ^ static_cast<unsigned>(distance)];
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  if (mask != 0xffffffffu) std::abort();
  return simt::Block::current->gather(value)[lane];
}

inline int __any_sync(unsigned mask, int value) {
  if (mask != 0xffffffffu) std::abort();
  const int *const lanes = simt::Block::current->gather(value);
  return std::any_of(lanes, lanes + simt::WARP, [](int lane) { return lane != 0; });
}

inline int __all_sync(unsigned mask, int value) { return !__any_sync(mask, value == 0); }

inline unsigned long long atomicMax(unsigned long long *address, unsigned long long value) {
  return std::exchange(*address, std::max(*address, value));
}

inline int atomicAdd(int *address, int value) { return std::exchange(*address, *address + value); }
inline uint32_t atomicAdd(uint32_t *address, uint32_t value) { return std::exchange(*address, *address + value); }

inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32); }

inline int __dp4a(int a, int b, int sum) {
  for (int shift = 0; shift < 32; shift += 8) sum += static_cast<int8_t>(a >> shift) * static_cast<int8_t>(b >> shift);
  return sum;
}

template <typename T>
T __ldcs(const T *address) {
  return *address;
}

// ---- the host's versions of what hardware.cuh gives a name ----

namespace samebits {

inline char *shared_memory() { return simt::Block::current->shared_memory(); }

struct Barrier;

// Copies of a thread come in groups, and a group as late as it may, so that a read that does not wait for it sees what was there
// before.
struct CopyGroup {
  std::vector<std::pair<uint4 *, uint4>> values;
  Barrier *barrier = nullptr;
  bool has_ended = false, asked_for = false;
};
inline thread_local std::map<const void *, std::map<unsigned, std::vector<CopyGroup>>> pending_copies;
inline std::vector<CopyGroup> &own_copies() { return pending_copies[simt::Block::current][threadIdx.x]; }

inline void copy_async(void *to, const void *from) {
  auto &own = own_copies();
  if (own.empty() || own.back().has_ended) own.emplace_back();
  own.back().values.emplace_back(static_cast<uint4 *>(to), *static_cast<const uint4 *>(from));
}

inline void end_copy_group() { own_copies().back().has_ended = true; }

void let_oldest_group_come();

template <int LATER>
void await_copy_groups() {
  while (own_copies().size() > LATER) let_oldest_group_come();
}

struct Barrier {
  int count, arrivals;

  void init(int of) { count = of, arrivals = 0; }
  void arrive() { arrivals++; }
  void arrive_when_copied() {
    if (own_copies().empty()) return arrive();
    own_copies().back().barrier = this;
  }
  // Copies come at the second question, or when a thread waits.
  bool is_over(int phase) {
    let_copies_come(false);
    const bool over = arrivals >= (phase + 1) * count;
    return __all_sync(0xffffffffu, over) != 0;
  }
  void wait(int phase) {
    let_copies_come(true);
    while (arrivals < (phase + 1) * count) simt::Block::current->look_again();
    if (arrivals >= (phase + 2) * count) {
      std::fprintf(stderr, "a barrier was waited for after the next phase was over\n");
      std::abort();
    }
    __syncwarp();
  }

 private:
  // Of the groups that it waits for, and those before them.
  void let_copies_come(bool now) {
    auto &own = own_copies();
    const auto of_this = std::find_if(own.begin(), own.end(), [this](const CopyGroup &group) { return group.barrier == this; });
    if (of_this == own.end()) return;
    if (!now && !std::exchange(of_this->asked_for, true)) return;
    for (auto left = of_this - own.begin() + 1; left > 0; left--) let_oldest_group_come();
  }
};

inline void let_oldest_group_come() {
  auto &own = own_copies();
  for (const auto &[to, value] : own.front().values) *to = value;
  if (own.front().barrier != nullptr) own.front().barrier->arrive();
  own.erase(own.begin());
}

// Most of the time of a product. No kernel's code, so that it needs none of the checks that they are compiled with.
__attribute__((optimize("O2"), no_sanitize("undefined")))
inline int dot_u8_s8(uint32_t a, uint32_t b) {
  return static_cast<uint8_t>(a) * static_cast<int8_t>(b) + static_cast<uint8_t>(a >> 8) * static_cast<int8_t>(b >> 8) +
         static_cast<uint8_t>(a >> 16) * static_cast<int8_t>(b >> 16) +
         static_cast<uint8_t>(a >> 24) * static_cast<int8_t>(b >> 24);
}

__attribute__((optimize("O2"), no_sanitize("undefined")))
inline void multiply_u8_s8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Words {
    uint32_t a[4], b[2];
  };
  Words own;
  std::memcpy(own.a, a, sizeof own.a);
  std::memcpy(own.b, b, sizeof own.b);
  const Words *const lanes = simt::Block::current->gather(own);
  const unsigned g = threadIdx.x % simt::WARP / 4, t = threadIdx.x % 4;
  for (unsigned i = 0; i < 4; i++) {
    const unsigned column = 2 * t + i % 2;
    for (unsigned k = 0; k < 4; k++) {
      for (unsigned half = 0; half < 2; half++) {
        const uint32_t weights = lanes[4 * g + k].a[2 * half + i / 2], x = lanes[4 * column + k].b[half];
        c[i] += dot_u8_s8(weights, x);
      }
    }
  }
}

inline int thread_of_block() { return static_cast<int>(threadIdx.x); }

inline uint4 load_shared_by_all(const uint4 *from) { return *from; }
inline uint64_t load_shared_by_all(const uint64_t *from) { return *from; }
inline uint32_t load_shared_by_all(const uint32_t *from) { return *from; }
inline void begin_beside_previous() {}
inline void store_shared_by_all(uint64_t *to, uint64_t value) { *to = value; }
inline void store_shared_by_all(uint32_t *to, uint32_t value) { *to = value; }
inline void look_again() { simt::Block::current->look_again(); }

}  // namespace samebits
