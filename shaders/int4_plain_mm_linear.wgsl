// One linear of a dispatch of int4_plain_mm.wgsl: its operands, and the walk over its rows of weights. Stands once for each
// linear, with LINEAR replaced by 1, 2, 3 and NEXT by the linear that takes the workgroups after its own, or END.
// Linears that share their x run side by side so; dispatches of their own would wait for each other.

@group(0) @binding(4u * LINEAR - 1u) var<storage, read> qdata_LINEAR: array<vec4<u32>>;
@group(0) @binding(4u * LINEAR) var<storage, read> scale_zero_LINEAR: array<u32>;
// Atomic because two bf16 outputs of different workgroups may share a word.
@group(0) @binding(4u * LINEAR + 1u) var<storage, read_write> y_LINEAR: array<atomic<u32>>;
@group(0) @binding(4u * LINEAR + 2u) var<uniform> p_LINEAR: Params;

/// Scale and zero of a block's first run, and of its second if it has two.
fn words_LINEAR(row: u32, block: u32) -> vec2<u32> {
  let n_groups = (p_LINEAR.blocks * BLOCK_SIZE) >> p_LINEAR.group_shift;
  let g = (block * BLOCK_SIZE) >> p_LINEAR.group_shift;
  let first = scale_zero_LINEAR[select(row * n_groups + g, g * p_LINEAR.n + row, NATIVE_SCALES)];
  if RUN_SIZE == BLOCK_SIZE {
    return vec2(first, 0u);
  }
  return vec2(first, scale_zero_LINEAR[select(row * n_groups + g + 1u, (g + 1u) * p_LINEAR.n + row, NATIVE_SCALES)]);
}

fn store_LINEAR(index: u32, bits: u32) {
  if OUTPUT_BF16 {
    // This thread alone owns its half of the word; the other half may be written by another workgroup, or belong to
    // nobody, and must survive.
    let shift = 16u * (index & 1u);
    atomicAnd(&y_LINEAR[index / 2u], ~(0xffffu << shift));
    atomicOr(&y_LINEAR[index / 2u], bf16_bits(bits) << shift);
  } else {
    atomicStore(&y_LINEAR[index], bits);
  }
}

fn linear_LINEAR(tile: u32, pass_of_rows: u32, team: u32, lane: u32) {
  let tiles = (p_LINEAR.n + TEAMS * WEIGHT_ROWS - 1u) / (TEAMS * WEIGHT_ROWS);
  if tile >= tiles {
    linear_NEXT(tile - tiles, pass_of_rows, team, lane);
    return;
  }
  let m_base = p_LINEAR.m_first + pass_of_rows * ROWS;
  let n_base = (tile * TEAMS + team) * WEIGHT_ROWS;
  let last = p_LINEAR.blocks - 1u;
  let weight_power = power_of_two(-p_LINEAR.weight_exponent);
  // A row too many is the last one again, and is not stored.
  let row_0 = min(n_base, p_LINEAR.n - 1u);
  let row_1 = min(n_base + 1u, p_LINEAR.n - 1u);

  var totals_0: array<vec2<i32>, MAX_ROWS>;
  var totals_1: array<vec2<i32>, MAX_ROWS>;
  for (var first = 0u; first <= last; first += 2u * LANES_PER_ROW) {
    let a = min(first + lane, last);
    let b = min(first + LANES_PER_ROW + lane, last);
    // All loads from memory before the first use of any.
    let w_0a = qdata_LINEAR[row_0 * p_LINEAR.blocks + a];
    let w_0b = qdata_LINEAR[row_0 * p_LINEAR.blocks + b];
    let w_1a = qdata_LINEAR[row_1 * p_LINEAR.blocks + a];
    let w_1b = qdata_LINEAR[row_1 * p_LINEAR.blocks + b];
    let words_0a = words_LINEAR(row_0, a);
    let words_0b = words_LINEAR(row_0, b);
    let words_1a = words_LINEAR(row_1, a);
    let words_1b = words_LINEAR(row_1, b);
    for (var m = 0u; m < ROWS; m++) {
      let x = (m_base + m) * p_LINEAR.blocks;
      let x_a = load_block(x + a, first + lane <= last);
      let x_b = load_block(x + b, first + LANES_PER_ROW + lane <= last);
      totals_0[m] = add_block(totals_0[m], w_0a, words_0a, x_a, weight_power);
      totals_1[m] = add_block(totals_1[m], w_1a, words_1a, x_a, weight_power);
      totals_0[m] = add_block(totals_0[m], w_0b, words_0b, x_b, weight_power);
      totals_1[m] = add_block(totals_1[m], w_1b, words_1b, x_b, weight_power);
    }
  }

  // Integers, so no order of summation can matter.
  for (var m = 0u; m < ROWS; m++) {
    totals_0[m] = add_lanes(team, lane, WEIGHT_ROWS * m, totals_0[m]);
    totals_1[m] = add_lanes(team, lane, WEIGHT_ROWS * m + 1u, totals_1[m]);
  }
  wait_for_team();

  // One lane an output.
  for (var output = lane; output < WEIGHT_ROWS * ROWS; output += LANES_PER_ROW) {
    let m = output / WEIGHT_ROWS;
    let n = n_base + output % WEIGHT_ROWS;
    var added = vec2(0);
    // A choice among registers; an index that is not constant would move the sums to memory.
    for (var i = 0u; i < ROWS; i++) {
      added = select(added, select(totals_0[i], totals_1[i], output % WEIGHT_ROWS == 1u), i == m);
    }
    if n < p_LINEAR.n {
      let row = m_base + m;
      let bits = output_bits(sum_of(team, output, added), p_LINEAR.weight_exponent, row_exponent[row]);
      store_LINEAR(row * p_LINEAR.n_total + p_LINEAR.n_first + n, bits);
    }
  }
}
