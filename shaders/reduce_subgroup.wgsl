// Sums over the lanes of a row in registers, where the subgroup size is fixed. Stands before int4_plain_mm.wgsl, like its
// twin reduce_workgroup.wgsl: the same integers, so the same bits.
//
// A workgroup is one subgroup: no barrier, no shared memory, and work is handed out in the smallest portions.
enable subgroups;

/// The subgroup size.
override LANES_PER_ROW: u32 = 32u;
const TEAMS = 1u;

struct Place {
  @builtin(subgroup_invocation_id) lane: u32,
}

fn lane_of(place: Place) -> u32 {
  return place.lane;
}

fn team_of(place: Place) -> u32 {
  return 0u;
}

/// The sum over the team's lanes, in every lane.
fn add_lanes(team: u32, lane: u32, output: u32, total: vec2<i32>) -> vec2<i32> {
  return vec2(subgroupAdd(total.x), subgroupAdd(total.y));
}

fn wait_for_team() {
}

fn sum_of(team: u32, output: u32, added: vec2<i32>) -> vec2<i32> {
  return added;
}
