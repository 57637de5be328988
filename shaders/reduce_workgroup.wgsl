// Sums over the lanes of a row in workgroup memory, which every device has. Stands before int4_plain_mm.wgsl, like its
// twin reduce_subgroup.wgsl: the same integers, so the same bits.
//
// 32 lanes a row whatever the subgroup size. Workgroup memory: 1 KiB * ROWS.

const LANES_PER_ROW = 32u;
/// Sums of a row that its lanes share: enough to keep them out of each other's way, few because devices zero them first.
const PARTIALS_PER_ROW = 4u;

struct Place {
  @builtin(local_invocation_index) thread: u32,
}

/// hi and lo of each output's partial sums.
var<workgroup> partial: array<atomic<i32>, 2u * PARTIALS_PER_ROW * TEAMS * WEIGHT_ROWS * ROWS>;

fn thread_of(place: Place) -> u32 {
  return place.thread;
}

fn first_slot(team: u32, output: u32) -> u32 {
  return 2u * PARTIALS_PER_ROW * (team * WEIGHT_ROWS * ROWS + output);
}

/// Adds a lane's sum to the shared ones; their sum is there after wait_for_lanes.
fn add_lanes(team: u32, lane: u32, output: u32, total: vec2<i32>) -> vec2<i32> {
  let slot = first_slot(team, output) + 2u * (lane % PARTIALS_PER_ROW);
  atomicAdd(&partial[slot], total.x);
  atomicAdd(&partial[slot + 1u], total.y);
  return total;
}

fn wait_for_lanes() {
  workgroupBarrier();
}

fn sum_of(team: u32, output: u32, added: vec2<i32>) -> vec2<i32> {
  var sum = vec2(0);
  for (var i = 0u; i < PARTIALS_PER_ROW; i++) {
    let slot = first_slot(team, output) + 2u * i;
    sum += vec2(atomicLoad(&partial[slot]), atomicLoad(&partial[slot + 1u]));
  }
  return sum;
}
