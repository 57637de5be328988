// Weights, buffers, and a linear from host memory to host memory.

#include <algorithm>

#include "device.hpp"

namespace samebits {
namespace {

// Operands start at multiples of this in scratch memory; every kernel's loads need 16.
constexpr uint64_t kAlignment = 256;

uint64_t aligned(uint64_t size_bytes) { return (size_bytes + kAlignment - 1) / kAlignment * kAlignment; }

[[noreturn]] void throw_argument(const char *rule, const std::string &expected, const std::string &got, const char *fix) {
  Failure failure;
  failure.code = "BYTE_LENGTH_MISMATCH";
  failure.rule = rule;
  failure.expected = expected;
  failure.got = got;
  failure.fix = fix;
  throw failure;
}

// Checks that a piece of an upload fits behind what has arrived.
void check_piece(const char *rule, uint64_t filled, uint64_t piece, uint64_t size_bytes) {
  if (piece <= size_bytes - filled) return;
  throw_argument(rule, std::to_string(size_bytes) + " bytes", std::to_string(filled + piece) + " bytes",
                 "Send exactly the bytes that the description announced.");
}

SamebitsDeviceWeight unfilled(const SamebitsShape &shape, SamebitsLayout layout) {
  SamebitsDeviceWeight view = {};
  view.shape = shape;
  view.layout = layout;
  return view;
}

}  // namespace

Scratch::Scratch(int64_t m, const SamebitsShape &shape) {
  const uint64_t rows = static_cast<uint64_t>(m);
  const uint64_t k = static_cast<uint64_t>(shape.k);
  const uint64_t runs = k / static_cast<uint64_t>(std::min<int32_t>(SAMEBITS_BLOCK_SIZE, shape.group_size));
  run_terms_ = aligned(rows * k);
  row_exponent_ = run_terms_ + aligned(rows * runs * 2 * sizeof(float));
  size_bytes = row_exponent_ + aligned(rows * sizeof(int32_t));
}

SamebitsActivations Scratch::at(char *base) const {
  return {reinterpret_cast<int8_t *>(base), reinterpret_cast<float *>(base + run_terms_),
          reinterpret_cast<int32_t *>(base + row_exponent_)};
}

Weight::Weight(std::shared_ptr<Device> on, const SamebitsShape &shape, SamebitsLayout layout)
    : device(std::move(on)), view_(unfilled(shape, layout)) {
  device->make_current();
  const uint64_t n = static_cast<uint64_t>(shape.n);
  qdata_ = device->allocate(n * static_cast<uint64_t>(shape.k / 2));
  scale_zero_ = device->allocate(n * static_cast<uint64_t>(shape.n_groups) * sizeof(uint32_t));
  view_.qdata = qdata_.data();
  view_.scale_zero = reinterpret_cast<const uint32_t *>(scale_zero_.data());
}

void Weight::copy(DeviceMemory &to, uint64_t offset, const void *from, uint64_t size_bytes) {
  if (size_bytes == 0) return;
  device->make_current();
  const auto workspace = device->take_workspace(0);
  check_cuda(cudaMemcpyAsync(to.data() + offset, from, size_bytes, cudaMemcpyHostToDevice, workspace->stream),
             "copying a weight to the device");
  workspace->synchronize("copying a weight to the device");
}

void Weight::append_qdata(const std::vector<uint8_t> &bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_piece("qdata must arrive whole", qdata_filled_, bytes.size(), qdata_.size_bytes());
  copy(qdata_, qdata_filled_, bytes.data(), bytes.size());
  qdata_filled_ += bytes.size();
}

void Weight::append_scales(const std::vector<uint16_t> &scale, const std::vector<uint16_t> &zero_point) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t count = scale.size();
  if (zero_point.size() != count) {
    throw_argument("scale and zeroPoint must arrive in equal pieces", std::to_string(count * 2) + " bytes",
                   std::to_string(zero_point.size() * 2) + " bytes", "Send the same range of both.");
  }
  check_piece("scale and zeroPoint must arrive whole", scale_zero_filled_, count * sizeof(uint32_t),
              scale_zero_.size_bytes());
  SamebitsRefusal refusal = {};
  const uint64_t first = scale_zero_filled_ / sizeof(uint32_t);
  double reach = reach_;  // a piece that is refused must leave no trace in E_w
  check_status(samebits_validate_values(scale.data(), zero_point.data(), count, first, &reach, &refusal), refusal);
  std::vector<uint32_t> words(count);
  samebits_interleave(scale.data(), zero_point.data(), count, words.data());
  copy(scale_zero_, scale_zero_filled_, words.data(), count * sizeof(uint32_t));
  scale_zero_filled_ += count * sizeof(uint32_t);
  reach_ = reach;
}

void Weight::seal() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (qdata_filled_ != qdata_.size_bytes() || scale_zero_filled_ != scale_zero_.size_bytes()) {
    throw_argument("a weight must be filled before it is used", std::to_string(size_bytes()) + " bytes",
                   std::to_string(qdata_filled_ + scale_zero_filled_) + " bytes", "Send every piece of the upload.");
  }
  SamebitsRefusal refusal = {};
  check_status(samebits_weight_exponent(reach_, &view_.weight_exponent, &refusal), refusal);
  sealed_ = true;
}

const SamebitsDeviceWeight &Weight::view() const {
  if (!sealed_) {
    throw_argument("a weight must be filled before it is used", std::to_string(size_bytes()) + " bytes",
                   "an upload that did not finish", "Send every piece of the upload.");
  }
  return view_;
}

Buffer::Buffer(std::shared_ptr<Device> on, uint64_t size) : device(std::move(on)), size_bytes(size) {
  device->make_current();
  memory = device->allocate(size);
  const auto workspace = device->take_workspace(0);
  check_cuda(cudaMemsetAsync(memory.data(), 0, memory.size_bytes(), workspace->stream), "clearing a buffer");
  workspace->synchronize("clearing a buffer");
}

void Buffer::write(const std::vector<uint8_t> &bytes) {
  if (bytes.size() != size_bytes) {
    throw_argument("a write fills the whole buffer", std::to_string(size_bytes) + " bytes",
                   std::to_string(bytes.size()) + " bytes", "Create the buffer with the size of what it holds.");
  }
  device->make_current();
  const auto workspace = device->take_workspace(0);
  check_cuda(cudaMemcpyAsync(memory.data(), bytes.data(), size_bytes, cudaMemcpyHostToDevice, workspace->stream),
             "writing a buffer");
  workspace->synchronize("writing a buffer");
}

void Buffer::read(void *into) const {
  device->make_current();
  const auto workspace = device->take_workspace(0);
  check_cuda(cudaMemcpyAsync(into, memory.data(), size_bytes, cudaMemcpyDeviceToHost, workspace->stream),
             "reading a buffer");
  workspace->synchronize("reading a buffer");
}

uint64_t output_size_bytes(int64_t m, const SamebitsShape &shape, bool output_bf16) {
  return static_cast<uint64_t>(m) * static_cast<uint64_t>(shape.n) * (output_bf16 ? 2 : 4);
}

void linear(const Weight &weight, const std::vector<uint16_t> &x, int32_t m, bool output_bf16, void *y) {
  const Device &device = *weight.device;
  const SamebitsDeviceWeight &view = weight.view();
  const SamebitsShape &shape = view.shape;
  const Scratch scratch(m, shape);
  const uint64_t x_bytes = x.size() * sizeof(uint16_t);
  const uint64_t y_bytes = output_size_bytes(m, shape, output_bf16);

  device.make_current();
  const auto workspace = weight.device->take_workspace(scratch.size_bytes + aligned(x_bytes) + aligned(y_bytes));
  char *const device_x = workspace->memory.data() + scratch.size_bytes;
  char *const device_y = device_x + aligned(x_bytes);
  const SamebitsActivations activations = scratch.at(workspace->memory.data());
  const cudaStream_t stream = workspace->stream;

  check_cuda(cudaMemcpyAsync(device_x, x.data(), x_bytes, cudaMemcpyHostToDevice, stream), "copying x to the device");
  const SamebitsLaunch first = device.launch_in(stream, false);
  check_cuda(samebits_quantize_activations(&first, device_x, &activations, m, shape.k, shape.group_size),
             "launching quantize_activations");
  const SamebitsLaunch second = device.launch_in(stream, true);
  check_cuda(samebits_int4_plain_mm(&second, &view, &activations, device_y, m, output_bf16),
             "launching int4_plain_mm");
  check_cuda(cudaMemcpyAsync(y, device_y, y_bytes, cudaMemcpyDeviceToHost, stream), "copying y from the device");
  workspace->synchronize("int4_plain_mm");
}

}  // namespace samebits
