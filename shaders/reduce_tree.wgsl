// The sum and the largest of 256 values, one a lane, that every lane of a workgroup gets. Stands after elementary.wgsl.
//
// The sum is that of DECODER.md: for s = 128, 64, ..., 1 in turn, slot j takes slot j + s. The first three rounds take eight
// values for each of 32 slots, the others those 32, which every lane adds for itself: two barriers in place of eight.

const THREADS = 256u;

var<workgroup> tree_slots: array<f32, THREADS>;
var<workgroup> tree_folded: array<f32, 32>;

/// Slots 4 i .. 4 i + 3 of the 32.
fn folded(i: u32) -> vec4<f32> {
  return vec4(tree_folded[4u * i], tree_folded[4u * i + 1u], tree_folded[4u * i + 2u], tree_folded[4u * i + 3u]);
}

fn tree_sum(value: f32, lane: u32) -> f32 {
  tree_slots[lane] = value;
  workgroupBarrier();
  if lane < 32u {
    let a = add(tree_slots[lane], tree_slots[lane + 128u]);
    let b = add(tree_slots[lane + 32u], tree_slots[lane + 160u]);
    let c = add(tree_slots[lane + 64u], tree_slots[lane + 192u]);
    let d = add(tree_slots[lane + 96u], tree_slots[lane + 224u]);
    tree_folded[lane] = add(add(a, c), add(b, d));
  }
  workgroupBarrier();
  var slots: array<vec4<f32>, 4>;
  for (var i = 0u; i < 4u; i++) {
    slots[i] = fence4(folded(i) + folded(i + 4u));
  }
  let four = fence4(fence4(slots[0] + slots[2]) + fence4(slots[1] + slots[3]));
  return add(add(four.x, four.z), add(four.y, four.w));
}

/// A later call of either finds tree_slots free: every lane has passed the second barrier of this one.
fn tree_max(value: f32, lane: u32) -> f32 {
  tree_slots[lane] = value;
  workgroupBarrier();
  if lane < 32u {
    let a = max(tree_slots[lane], tree_slots[lane + 128u]);
    let b = max(tree_slots[lane + 32u], tree_slots[lane + 160u]);
    let c = max(tree_slots[lane + 64u], tree_slots[lane + 192u]);
    let d = max(tree_slots[lane + 96u], tree_slots[lane + 224u]);
    tree_folded[lane] = max(max(a, b), max(c, d));
  }
  workgroupBarrier();
  var four = folded(0u);
  for (var i = 1u; i < 8u; i++) {
    four = max(four, folded(i));
  }
  return max(max(four.x, four.y), max(four.z, four.w));
}
