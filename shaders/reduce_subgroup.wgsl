// Sums over the lanes of a row in registers, where the subgroup size is fixed. Stands before int4_plain_mm.wgsl, like its
// twin reduce_workgroup.wgsl: the same integers, so the same bits.
//
// A team is a subgroup, whatever the order of local invocations.
enable subgroups;
requires subgroup_id;

/// The subgroup size, 4 to 32.
override LANES_PER_ROW: u32 = 32u;

struct Place {
  @builtin(subgroup_id) team: u32,
  @builtin(subgroup_invocation_id) lane: u32,
}

fn thread_of(place: Place) -> u32 {
  return place.team * LANES_PER_ROW + place.lane;
}

/// The sum over the team's lanes, in every lane.
fn add_lanes(team: u32, lane: u32, output: u32, total: vec2<i32>) -> vec2<i32> {
  return vec2(subgroupAdd(total.x), subgroupAdd(total.y));
}

fn wait_for_lanes() {
}

fn sum_of(team: u32, output: u32, added: vec2<i32>) -> vec2<i32> {
  return added;
}
