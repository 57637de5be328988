// What lives on a device, as C++ objects that free what they own: memory, weights, buffers, plans. Knows no Node.
//
// Every object that owns device memory is held by shared_ptr. A call in flight holds one too, so that memory is freed
// once, when both the handle and the last call that uses it are gone.

#pragma once

#include <cuda_runtime.h>

#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "weight_form.hpp"

namespace samebits {

// Why a call failed, in the parts of SamebitsError. `cuda_error` is the CUDA error's name, or empty.
struct Failure : std::exception {
  std::string code, rule, expected, got, fix, cuda_error;
  const char *what() const noexcept override { return code.c_str(); }
};

// Throws a Failure (DEVICE_OUT_OF_MEMORY, DEVICE_LOST or DEVICE_FAILURE) unless `error` is success.
void check_cuda(int error, const char *what);
// Throws the refusal as a Failure unless `status` is OK.
void check_status(SamebitsStatus status, const SamebitsRefusal &refusal);

// A block of memory of the current device. Empty after a move.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  explicit DeviceMemory(uint64_t size_bytes);
  DeviceMemory(DeviceMemory &&other) noexcept;
  DeviceMemory &operator=(DeviceMemory &&other) noexcept;
  ~DeviceMemory();
  char *data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  char *data_ = nullptr;
  uint64_t size_bytes_ = 0;
  int device_ = 0;
};

// A stream and scratch memory: what one call at a time works with.
struct Workspace {
  explicit Workspace(int device);
  ~Workspace();
  Workspace(const Workspace &) = delete;
  Workspace &operator=(const Workspace &) = delete;
  void synchronize(const char *what) { check_cuda(cudaStreamSynchronize(stream), what); }
  cudaStream_t stream = nullptr;
  DeviceMemory memory;

 private:
  int device_;
};

// One device: its properties and the workspaces that no call is using.
class Device : public std::enable_shared_from_this<Device> {
 public:
  // Loads every kernel. Throws BACKEND_UNAVAILABLE when the device or the driver cannot run them.
  static std::shared_ptr<Device> open(int index);

  // Makes this the calling thread's device. Every call begins with it.
  void make_current() const { check_cuda(cudaSetDevice(index), "cudaSetDevice"); }

  // Device memory; gives idle workspaces back to the driver when it does not suffice.
  DeviceMemory allocate(uint64_t size_bytes);

  // A workspace of at least `size_bytes`, for one call; returns to the pool with the pointer, from the same thread or another.
  std::shared_ptr<Workspace> take_workspace(uint64_t size_bytes);

  SamebitsLaunch launch_in(cudaStream_t stream) const;

  int index = 0;
  cudaDeviceProp properties = {};

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;
};

// Which kernel a weight is laid out for: ours, or the benchmark's baseline with its two layouts of scales.
enum class WeightKind { kTiled, kBaseline, kBaselineNative };

// A packed weight on the device, filled piece by piece in the order of its elements, then sealed.
class Weight {
 public:
  // Only tiles hold other forms than SAMEBITS_ZERO_BF16.
  Weight(std::shared_ptr<Device> device, const SamebitsShape &shape, const SamebitsForm &form, WeightKind kind);
  // Whole blocks of 16 bytes.
  void append_qdata(const std::vector<uint8_t> &bytes);
  // Groups of a form that is not nested, and of one that is: the groups of whole steps, with them.
  void append_scales(const std::vector<uint16_t> &scale, const std::vector<uint16_t> &second);
  void append_nested_scales(const std::vector<uint8_t> &scale, const std::vector<uint8_t> &second,
                            const std::vector<uint16_t> &scale_step, const std::vector<uint16_t> &second_step);
  // Computes E_w; throws when pieces are missing.
  void seal();
  // These throw unless sealed.
  const SamebitsShape &checked_shape() const;
  SamebitsDeviceWeight tiled() const;
  SamebitsBaselineWeight baseline() const;
  // Bytes of the weight itself; tiles pad it.
  uint64_t size_bytes() const { return qdata_bytes_ + scale_bytes_; }
  const std::shared_ptr<Device> device;
  const SamebitsShape shape;
  const SamebitsForm form;
  const WeightKind kind;

 private:
  void require_sealed() const;
  uint64_t group_count() const { return static_cast<uint64_t>(shape.n) * static_cast<uint64_t>(shape.n_groups); }
  // Checks the next groups of the weight; what they reach counts once they are there.
  double reach_with(SamebitsGroups groups) const;
  SamebitsDeviceWeight unsealed() const { return {shape, form, 0, qdata_.data(), scales_.data()}; }
  std::mutex mutex_;
  const uint64_t qdata_bytes_, scale_bytes_;
  DeviceMemory qdata_, scales_;
  int32_t weight_exponent_ = 0;
  uint64_t qdata_filled_ = 0, groups_filled_ = 0;
  double reach_ = 0;
  bool sealed_ = false;
};

// Plain device memory, zeroed.
class Buffer {
 public:
  Buffer(std::shared_ptr<Device> device, uint64_t size_bytes);
  void write(const std::vector<uint8_t> &bytes);
  // A part of it.
  void fill(uint64_t offset, const std::vector<uint8_t> &bytes);
  void read(void *into) const;
  const std::shared_ptr<Device> device;
  const uint64_t size_bytes;
  DeviceMemory memory;
};

// y = x · wᵀ from host memory to host memory, on a stream and scratch of its own.
void linear(const Weight &weight, const std::vector<uint16_t> &x, int32_t m, bool output_bf16, void *y);

// Bytes of y for M rows.
uint64_t output_size_bytes(int64_t m, const SamebitsShape &shape, bool output_bf16);

// Largest rate, in GB/s, of `replays` passes over size_bytes of memory.
double read_bandwidth_gbps(Device &device, uint64_t size_bytes, int replays);

}  // namespace samebits
