// Weights, buffers, and a linear from host memory to host memory.

#include <algorithm>
#include <initializer_list>

#include "device.hpp"
#include "schedule.hpp"

namespace samebits {
namespace {

constexpr uint64_t kBlockBytes = SAMEBITS_BLOCK_SIZE / 2;

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

// Checks that arrays of the same groups, or of the steps that these take, are of them all; and that their form has such arrays.
void require_equal_pieces(std::initializer_list<uint64_t> groups, bool is_other_form) {
  const auto [fewest, most] = std::minmax(groups);
  if (fewest == most && !is_other_form) return;
  throw_argument("scales must arrive in equal pieces, as their form has them", std::to_string(most) + " groups in each array",
                 is_other_form ? "those of another form" : std::to_string(fewest) + " groups in one",
                 "Send the same range of all arrays; of a nested form, whole steps.");
}

// Bytes of what the groups of a weight have, without padding.
uint64_t scale_bytes_of(const SamebitsShape &of, SamebitsFormKind form) {
  const auto rows = static_cast<uint64_t>(of.n), groups = static_cast<uint64_t>(of.n_groups);
  if (!is_nested(form)) return rows * groups * sizeof(uint32_t);
  return rows * (groups * sizeof(uint16_t) + static_cast<uint64_t>(of.k / STEP_SIZE) * sizeof(uint32_t));
}

}  // namespace

Weight::Weight(std::shared_ptr<Device> on, const SamebitsShape &of, const SamebitsForm &in_form, WeightKind for_kind)
    : device(std::move(on)),
      shape(of),
      form(in_form),
      kind(for_kind),
      qdata_bytes_(static_cast<uint64_t>(of.n) * static_cast<uint64_t>(of.k / 2)),
      scale_bytes_(scale_bytes_of(of, in_form.kind)) {
  device->make_current();
  const bool is_tiled = kind == WeightKind::kTiled;
  qdata_ = device->allocate(is_tiled ? samebits_tiled_code_bytes(&shape) : qdata_bytes_);
  scales_ = device->allocate(is_tiled ? samebits_tiled_scale_bytes(&shape, form.kind) : scale_bytes_);
  if (qdata_.size_bytes() == qdata_bytes_ && scales_.size_bytes() == scale_bytes_) return;
  const auto workspace = device->take_workspace(0);
  for (const DeviceMemory *padded : {&qdata_, &scales_}) {
    check_cuda(cudaMemsetAsync(padded->data(), 0, padded->size_bytes(), workspace->stream), "clearing a weight");
  }
  workspace->synchronize("clearing a weight");
}

void Weight::append_qdata(const std::vector<uint8_t> &bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_piece("qdata must arrive whole", qdata_filled_, bytes.size(), qdata_bytes_);
  if (bytes.size() % kBlockBytes != 0) {
    throw_argument("qdata must arrive in whole blocks of 32 codes", "a multiple of " + std::to_string(kBlockBytes) + " bytes",
                   std::to_string(bytes.size()) + " bytes", "Split the bytes at multiples of 16.");
  }
  if (bytes.empty()) return;
  device->make_current();
  const bool is_tiled = kind == WeightKind::kTiled;
  const auto workspace = device->take_workspace(is_tiled ? bytes.size() : 0);
  char *const to = is_tiled ? workspace->memory.data() : qdata_.data() + qdata_filled_;
  check_cuda(cudaMemcpyAsync(to, bytes.data(), bytes.size(), cudaMemcpyHostToDevice, workspace->stream),
             "copying a weight to the device");
  if (is_tiled) {
    const SamebitsLaunch launch = device->launch_in(workspace->stream);
    const SamebitsDeviceWeight into = unsealed();
    check_cuda(samebits_tile_codes(&launch, to, qdata_filled_ / kBlockBytes, bytes.size() / kBlockBytes, &into),
               "launching tile_codes");
  }
  workspace->synchronize("copying a weight to the device");
  qdata_filled_ += bytes.size();
}

double Weight::reach_with(SamebitsGroups groups) const {
  groups.first = groups_filled_;
  groups.groups_per_step = is_nested(form.kind) ? groups_per_step(shape.group_size) : 1;
  if (groups.count > group_count() - groups_filled_) {
    throw_argument("scales must arrive whole", std::to_string(group_count()) + " groups",
                   std::to_string(groups_filled_ + groups.count) + " groups", "Send exactly what the description announced.");
  }
  double reach = reach_;  // a piece that is refused must leave no trace in E_w
  SamebitsRefusal refusal = {};
  check_status(samebits_validate_groups(&form, &groups, &reach, &refusal), refusal);
  return reach;
}

void Weight::append_scales(const std::vector<uint16_t> &scale, const std::vector<uint16_t> &second) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t count = scale.size();
  require_equal_pieces({count, second.size()}, is_nested(form.kind));
  SamebitsGroups groups = {};
  groups.count = count;
  groups.scale = scale.data();
  groups.second = second.data();
  const double reach = reach_with(groups);
  if (count == 0) return;
  std::vector<uint32_t> words(count);
  samebits_interleave(form.kind, scale.data(), second.data(), count, words.data());

  device->make_current();
  const uint64_t size_bytes = count * sizeof(uint32_t);
  const bool is_tiled = kind == WeightKind::kTiled;
  const auto workspace = device->take_workspace(is_tiled ? size_bytes : 0);
  char *const to = is_tiled ? workspace->memory.data() : scales_.data() + groups_filled_ * sizeof(uint32_t);
  check_cuda(cudaMemcpyAsync(to, words.data(), size_bytes, cudaMemcpyHostToDevice, workspace->stream),
             "copying a weight to the device");
  if (is_tiled) {
    const SamebitsLaunch launch = device->launch_in(workspace->stream);
    const SamebitsDeviceWeight into = unsealed();
    check_cuda(samebits_tile_scales(&launch, reinterpret_cast<const uint32_t *>(to), groups_filled_, count, &into),
               "launching tile_scales");
  }
  workspace->synchronize("copying a weight to the device");
  groups_filled_ += count;
  reach_ = reach;
}

void Weight::append_nested_scales(const std::vector<uint8_t> &scale, const std::vector<uint8_t> &second,
                                  const std::vector<uint16_t> &scale_step, const std::vector<uint16_t> &second_step) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t count = scale.size(), steps = scale_step.size();
  const uint64_t per_step = is_nested(form.kind) ? static_cast<uint64_t>(groups_per_step(shape.group_size)) : 1;
  require_equal_pieces({count, second.size(), steps * per_step, second_step.size() * per_step}, !is_nested(form.kind));
  SamebitsGroups groups = {};
  groups.count = count;
  groups.scale_code = scale.data();
  groups.second_code = second.data();
  groups.scale_step = scale_step.data();
  groups.second_step = second_step.data();
  const double reach = reach_with(groups);
  if (count == 0) return;
  std::vector<uint16_t> codes(count);
  std::vector<uint32_t> words(steps);
  samebits_interleave_codes(scale.data(), second.data(), count, codes.data());
  samebits_interleave(form.kind, scale_step.data(), second_step.data(), steps, words.data());

  device->make_current();
  const uint64_t code_bytes = aligned(count * sizeof(uint16_t)), step_bytes = steps * sizeof(uint32_t);
  const auto workspace = device->take_workspace(code_bytes + step_bytes);
  char *const to = workspace->memory.data(), *const to_steps = to + code_bytes;
  check_cuda(cudaMemcpyAsync(to, codes.data(), count * sizeof(uint16_t), cudaMemcpyHostToDevice, workspace->stream),
             "copying a weight to the device");
  check_cuda(cudaMemcpyAsync(to_steps, words.data(), step_bytes, cudaMemcpyHostToDevice, workspace->stream),
             "copying a weight to the device");
  const SamebitsLaunch launch = device->launch_in(workspace->stream);
  const SamebitsDeviceWeight into = unsealed();
  check_cuda(samebits_tile_nested_scales(&launch, reinterpret_cast<const uint16_t *>(to),
                                         reinterpret_cast<const uint32_t *>(to_steps), groups_filled_, count, &into),
             "launching tile_nested_scales");
  workspace->synchronize("copying a weight to the device");
  groups_filled_ += count;
  reach_ = reach;
}

void Weight::seal() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (qdata_filled_ != qdata_bytes_ || groups_filled_ != group_count()) {
    throw_argument("a weight must be filled before it is used",
                   std::to_string(qdata_bytes_) + " bytes and " + std::to_string(group_count()) + " groups",
                   std::to_string(qdata_filled_) + " bytes and " + std::to_string(groups_filled_) + " groups",
                   "Send every piece of the upload.");
  }
  SamebitsRefusal refusal = {};
  check_status(samebits_weight_exponent(reach_, &weight_exponent_, &refusal), refusal);
  sealed_ = true;
}

void Weight::require_sealed() const {
  if (sealed_) return;
  throw_argument("a weight must be filled before it is used", std::to_string(size_bytes()) + " bytes",
                 "an upload that did not finish", "Send every piece of the upload.");
}

const SamebitsShape &Weight::checked_shape() const {
  require_sealed();
  return shape;
}

SamebitsDeviceWeight Weight::tiled() const {
  require_sealed();
  return {shape, form, weight_exponent_, qdata_.data(), scales_.data()};
}

SamebitsBaselineWeight Weight::baseline() const {
  require_sealed();
  const SamebitsLayout layout = kind == WeightKind::kBaselineNative ? SAMEBITS_NATIVE : SAMEBITS_COALESCED;
  return {shape, layout, weight_exponent_, qdata_.data(), reinterpret_cast<const uint32_t *>(scales_.data())};
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
  fill(0, bytes);
}

void Buffer::fill(uint64_t offset, const std::vector<uint8_t> &bytes) {
  if (offset > size_bytes || bytes.size() > size_bytes - offset) {
    throw_argument("a part must lie in its buffer", std::to_string(size_bytes) + " bytes",
                   std::to_string(bytes.size()) + " bytes from " + std::to_string(offset), "Split what the buffer holds.");
  }
  if (bytes.empty()) return;
  device->make_current();
  const auto workspace = device->take_workspace(0);
  check_cuda(cudaMemcpyAsync(memory.data() + offset, bytes.data(), bytes.size(), cudaMemcpyHostToDevice, workspace->stream),
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
  const uint64_t x_bytes = x.size() * sizeof(uint16_t);
  const uint64_t y_bytes = output_size_bytes(m, weight.shape, output_bf16);

  device.make_current();
  const auto operands = weight.device->take_workspace(aligned(x_bytes) + y_bytes);
  char *const device_x = operands->memory.data(), *const device_y = device_x + aligned(x_bytes);
  Schedule schedule(device, {{&weight, device_x, device_y, m, output_bf16}});
  const auto workspace = weight.device->take_workspace(schedule.scratch_bytes());
  const cudaStream_t stream = workspace->stream;

  check_cuda(cudaMemcpyAsync(device_x, x.data(), x_bytes, cudaMemcpyHostToDevice, stream), "copying x to the device");
  schedule.place(stream, workspace->memory.data());
  schedule.launch(stream);
  check_cuda(cudaMemcpyAsync(y, device_y, y_bytes, cudaMemcpyDeviceToHost, stream), "copying y from the device");
  workspace->synchronize("int4_plain_mm");
}

}  // namespace samebits
