// Runs a kernel's own source on the host: every thread of a block is a fiber, and warps meet at shuffles and barriers.
//
// Blocks run one after another. A thread that does not come to a shuffle of its warp, or to a barrier of its block, is
// what hangs a GPU; here it aborts. What this cannot show: races between blocks, memory ordering, speed.

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
#include <vector>

struct uint2 { uint32_t x, y; } __attribute__((aligned(8)));
struct uint4 { uint32_t x, y, z, w; } __attribute__((aligned(16)));
struct float2 { float x, y; } __attribute__((aligned(8)));
struct float4 { float x, y, z, w; } __attribute__((aligned(16)));
struct dim3 {
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  unsigned x, y, z;
};

inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local

inline thread_local dim3 threadIdx, blockIdx, gridDim;
using std::min;

namespace simt {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 64 * 1024;

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

  void run(const std::function<void()> &body) {
    body_ = &body;
    current = this;
    for (Fiber &fiber : fibers_) fiber.done = false;
    size_t running = fibers_.size();
    while (running > 0) {
      progress_ = false;
      for (index_ = 0; index_ < fibers_.size(); index_++) {
        if (fibers_[index_].done) continue;
        threadIdx = dim3(static_cast<unsigned>(index_));
        if (_setjmp(scheduler_) == 0) resume(fibers_[index_]);
        if (fibers_[index_].done) running--;
      }
      if (!progress_) {
        std::fprintf(stderr, "a thread did not come to a shuffle or barrier of the others\n");
        std::abort();
      }
    }
  }

  void synchronize() { wait(barrier_, static_cast<int>(fibers_.size())); }

  // The value that lane ^ distance passed. Two buffers in turn: nobody writes one before everybody has read it.
  uint64_t exchange(uint64_t value, int distance) {
    const size_t lane = index_ % WARP;
    Warp &warp = warps_[index_ / WARP];
    uint64_t *const slots = warp.slots[warp.barrier.generation % 2];
    slots[lane] = value;
    wait(warp.barrier, WARP);
    return slots[lane ^ static_cast<size_t>(distance)];
  }

  static inline thread_local Block *current = nullptr;

 private:
  struct Warp {
    Barrier barrier;
    uint64_t slots[2][WARP];
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
  size_t index_ = 0;
  bool progress_ = false;
};

inline void launch(dim3 grid, int threads, const std::function<void()> &body) {
  static thread_local std::map<int, Block> blocks;
  Block &block = blocks.try_emplace(threads, threads).first->second;
  gridDim = grid;
  for (unsigned y = 0; y < grid.y; y++) {
    for (unsigned x = 0; x < grid.x; x++) {
      blockIdx = dim3(x, y);
      block.run(body);
    }
  }
}

}  // namespace simt

inline void __syncthreads() { simt::Block::current->synchronize(); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  if (mask != 0xffffffffu) std::abort();
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = simt::Block::current->exchange(bits, distance);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline int __dp4a(int a, int b, int sum) {
  for (int shift = 0; shift < 32; shift += 8) sum += static_cast<int8_t>(a >> shift) * static_cast<int8_t>(b >> shift);
  return sum;
}

inline uint32_t __vmaxu2(uint32_t a, uint32_t b) {
  return std::max(a & 0xffffu, b & 0xffffu) | std::max(a >> 16, b >> 16) << 16;
}

template <typename T>
T __ldcs(const T *address) {
  return *address;
}

template <typename T>
T __ldg(const T *address) {
  return *address;
}
