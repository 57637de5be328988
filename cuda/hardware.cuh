// What differs between generations of GPUs, behind one name each: asynchronous copies, barriers in shared memory, products of
// int8 on tensor cores, sums over a warp, and loads and stores that other multiprocessors see.
//
// Tests on the host bring their own versions (cuda_runtime.h there), with the same names and meaning.

#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

namespace samebits {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

#ifdef __CUDACC__

// ---- shared memory, and copies into it that a thread waits for later ----

// The dynamic shared memory of the block.
__device__ __forceinline__ char *shared_memory() {
  extern __shared__ __align__(128) char bytes[];
  return bytes;
}

// Starts a copy of 16 bytes from global to shared memory. sm_75 has no such copy and waits for its bytes here.
__device__ __forceinline__ void copy_async(void *to, const void *from) {
#if __CUDA_ARCH__ >= 800
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
#else
  *static_cast<uint4 *>(to) = __ldcs(static_cast<const uint4 *>(from));
#endif
}

// Makes a group of the copies that this thread has started since the last one.
__device__ __forceinline__ void end_copy_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all groups but the LATER newest are there, for the thread that copied them.
template <int LATER>
__device__ __forceinline__ void await_copy_groups() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
#endif
}

// What a kernel that may begin before the one before it has ended calls before it reads what that one writes, or writes what it
// reads; the next kernel may begin from here on.
__device__ __forceinline__ void begin_beside_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n\tgriddepcontrol.wait;" ::: "memory");
#endif
}

// threadIdx.x, kept in a register: compilers would rather read it again, which takes longer than what it is for.
__device__ __forceinline__ int thread_of_block() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// ---- a barrier in shared memory: phase p is over when `count` arrivals have followed those of phase p - 1 ----

struct Barrier {
  uint64_t state;

  // By one thread, before the block synchronizes.
  __device__ __forceinline__ void init(int count) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address()), "r"(count) : "memory");
#else
    state = static_cast<uint64_t>(count) << 32;
#endif
  }

  // What the caller wrote to shared memory before is seen by whoever waits for the phase.
  __device__ __forceinline__ void arrive() {
#if __CUDA_ARCH__ >= 800
    asm volatile("{ .reg .b64 ignored; mbarrier.arrive.shared.b64 ignored, [%0]; }" ::"r"(address()) : "memory");
#else
    __threadfence_block();
    atomicAdd(reinterpret_cast<unsigned *>(&state), 1u);
#endif
  }

  // As arrive(), once the copies that this thread has started have come.
  __device__ __forceinline__ void arrive_when_copied() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(address()) : "memory");
#else
    arrive();
#endif
  }

  // Whether a phase is over: one answer for a whole warp. No phase may be asked for once the next one is over.
  __device__ __forceinline__ bool is_over(int phase) const { return __all_sync(ALL_LANES, parity_says_over(phase)) != 0; }

  // For a whole warp, as above.
  __device__ __forceinline__ void wait(int phase) {
    while (!wait_a_while(phase)) {
    }
#if __CUDA_ARCH__ < 800
    __threadfence_block();
#endif
    __syncwarp();
  }

 private:
  __device__ __forceinline__ bool parity_says_over(int phase) const {
#if __CUDA_ARCH__ >= 800
    uint32_t over;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(over)
                 : "r"(address()), "r"(phase & 1)
                 : "memory");
    return over != 0;
#else
    const volatile unsigned *const words = reinterpret_cast<const volatile unsigned *>(&state);
    return static_cast<int>(words[0] - words[1] * (static_cast<unsigned>(phase) + 1u)) >= 0;
#endif
  }

  __device__ __forceinline__ bool wait_a_while(int phase) const {
#if __CUDA_ARCH__ >= 900
    // Sleeps a while before it says no: warps that ask again and again hold up those that work.
    uint32_t over;
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(over)
                 : "r"(address()), "r"(phase & 1)
                 : "memory");
    return over != 0;
#else
    return parity_says_over(phase);
#endif
  }

  __device__ __forceinline__ uint32_t address() const { return static_cast<uint32_t>(__cvta_generic_to_shared(this)); }
};

// ---- tensor cores ----

// c[16 x 8] += a[16 x 32] · b[32 x 8] over a warp. With g = lane / 4 and t = lane % 4, and four k a word: a[0], a[1] hold
// k 4t.. of rows g and g + 8, a[2], a[3] k 16 + 4t..; b[0], b[1] the same k of column g; c[0], c[1] columns 2t and 2t + 1 of row
// g, c[2], c[3] of row g + 8.
__device__ __forceinline__ void multiply_u8_s8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int half = 0; half < 2; half++) {
#pragma unroll
    for (int rows = 0; rows < 2; rows++) {
      asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
          : "+r"(c[2 * rows]), "+r"(c[2 * rows + 1])
          : "r"(a[2 * half + rows]), "r"(b[half]));
    }
  }
#endif
}

// ---- what other multiprocessors see: each of these is one access that cannot tear ----

__device__ __forceinline__ uint4 load_shared_by_all(const uint4 *from) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}

__device__ __forceinline__ uint64_t load_shared_by_all(const uint64_t *from) {
  uint64_t value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
  return value;
}

__device__ __forceinline__ uint32_t load_shared_by_all(const uint32_t *from) {
  uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

__device__ __forceinline__ void store_shared_by_all(uint64_t *to, uint64_t value) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}

__device__ __forceinline__ void store_shared_by_all(uint32_t *to, uint32_t value) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

// Between two looks at what another warp is to write.
__device__ __forceinline__ void look_again() {}

#endif

// ---- over a warp; every lane gets the result ----

__device__ __forceinline__ int max_over_warp(int value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return __reduce_max_sync(ALL_LANES, value);
#else
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    const int other = __shfl_xor_sync(ALL_LANES, value, distance);
    value = value > other ? value : other;
  }
  return value;
#endif
}

}  // namespace samebits
