// One linear of a dispatch of int4_plain_mm.wgsl: its operands, and the walk over its rows of weights. Stands once for each
// linear, with LINEAR replaced by 1, 2, 3 and NEXT by the linear that takes the workgroups after its own, or END.
// Linears that share their x run side by side so; dispatches of their own would wait for each other.

@group(0) @binding(4u * LINEAR - 1u) var<storage, read> qdata_LINEAR: array<vec4<u32>>;
@group(0) @binding(4u * LINEAR) var<storage, read> groups_LINEAR: array<u32>;
// Atomic because two bf16 outputs of different workgroups may share a word.
@group(0) @binding(4u * LINEAR + 1u) var<storage, read_write> y_LINEAR: array<atomic<u32>>;
@group(0) @binding(4u * LINEAR + 2u) var<uniform> p_LINEAR: Params;

/// What a block reads of its groups; `first` is the first block of the row.
fn words_LINEAR(row: u32, first: u32, block: u32) -> vec2<u32> {
  if NESTED {
    let steps = (first + block) / STEP_BLOCKS * p_LINEAR.step_words;
    let word = (block % STEP_BLOCKS) >> (p_LINEAR.group_shift + u32(RUN_SIZE == BLOCK_SIZE));
    return vec2(groups_LINEAR[steps + 1u + word], groups_LINEAR[steps]);
  }
  if RUN_SIZE < BLOCK_SIZE {
    let i = select(2u * (first + block), 2u * block * p_LINEAR.n + row, NATIVE_SCALES);
    return vec2(groups_LINEAR[i], groups_LINEAR[i + select(1u, p_LINEAR.n, NATIVE_SCALES)]);
  }
  let shift = p_LINEAR.group_shift;
  return vec2(groups_LINEAR[select((first + block) >> shift, (block >> shift) * p_LINEAR.n + row, NATIVE_SCALES)], 0u);
}

fn store_LINEAR(index: u32, bits: u32) {
  if OUTPUT_BF16 {
    // This thread alone owns its half of the word; the other half may be written by another workgroup, or belong to
    // nobody, and must survive.
    let shift = 16u * (index & 1u);
    atomicAnd(&y_LINEAR[index / 2u], ~(0xffffu << shift));
    atomicOr(&y_LINEAR[index / 2u], bf16_from_result(bits) << shift);
  } else {
    atomicStore(&y_LINEAR[index], bits);
  }
}

/// Blocks `a` and `b` of two rows, or block `a` of four.
fn load_LINEAR(rows: vec4<u32>, firsts: vec4<u32>, a: u32, b: u32) -> Weights {
  return Weights(
    qdata_LINEAR[firsts.x + a],
    qdata_LINEAR[firsts.y + a],
    qdata_LINEAR[firsts.z + b],
    qdata_LINEAR[firsts.w + b],
    words_LINEAR(rows.x, firsts.x, a),
    words_LINEAR(rows.y, firsts.y, a),
    words_LINEAR(rows.z, firsts.z, b),
    words_LINEAR(rows.w, firsts.w, b),
  );
}

fn linear_LINEAR(tile: u32, pass_of_rows: u32, thread: u32) {
  let tile_rows = TEAMS * WEIGHT_ROWS;
  let tiles = (p_LINEAR.n + tile_rows - 1u) / tile_rows;
  if tile >= tiles {
    linear_NEXT(tile - tiles, pass_of_rows, thread);
    return;
  }
  let team = thread / LANES_PER_ROW;
  let lane = thread % LANES_PER_ROW;
  let m_base = p_LINEAR.m_first + pass_of_rows * ROWS;
  let n_base = tile * tile_rows + team * WEIGHT_ROWS;
  let last = p_LINEAR.blocks - 1u;
  // A row too many is the last one again, and is not stored.
  let rows = min(vec4(n_base) + vec4(0u, 1u, 2u, 3u) % WEIGHT_ROWS, vec4(p_LINEAR.n - 1u));
  let firsts = rows * p_LINEAR.blocks;
  let in_pairs = WEIGHT_ROWS == 2u;
  let between = select(0u, LANES_PER_ROW, in_pairs);
  let unit = unit_of(p_LINEAR.weight_exponent);
  let center = f32(p_LINEAR.center);

  var totals_0: array<vec2<i32>, MAX_ROWS>;
  var totals_1: array<vec2<i32>, MAX_ROWS>;
  var totals_2: array<vec2<i32>, MAX_ROWS>;
  var totals_3: array<vec2<i32>, MAX_ROWS>;
  // The first weights are on their way while E_x is read.
  var a = lane;
  var w = load_LINEAR(rows, firsts, min(a, last), min(a + between, last));
  var exponents: array<i32, MAX_ROWS>;
  for (var m = 0u; m < ROWS; m++) {
    exponents[m] = row_exponent_of(m_base + m);
  }
  loop {
    let b = a + between;
    let shift_a = codes_shift(a, p_LINEAR.group_shift);
    let shift_b = codes_shift(b, p_LINEAR.group_shift);
    for (var m = 0u; m < ROWS; m++) {
      let x_a = load_block(m_base + m, min(a, last), a <= last, exponents[m], unit);
      var x_b = x_a;
      if in_pairs {
        x_b = load_block(m_base + m, min(b, last), b <= last, exponents[m], unit);
      }
      totals_0[m] = add_block(totals_0[m], w.block_0, w.words_0, x_a, shift_a, center);
      totals_1[m] = add_block(totals_1[m], w.block_1, w.words_1, x_a, shift_a, center);
      totals_2[m] = add_block(totals_2[m], w.block_2, w.words_2, x_b, shift_b, center);
      totals_3[m] = add_block(totals_3[m], w.block_3, w.words_3, x_b, shift_b, center);
    }
    a += LANES_PER_ROW + between;
    if a - lane > last {
      break;
    }
    w = load_LINEAR(rows, firsts, min(a, last), min(a + between, last));
  }

  // Integers, so no order of summation can matter.
  for (var m = 0u; m < ROWS; m++) {
    let first = WEIGHT_ROWS * m;
    if in_pairs {
      totals_0[m] = add_lanes(team, lane, first, totals_0[m] + totals_2[m]);
      totals_1[m] = add_lanes(team, lane, first + 1u, totals_1[m] + totals_3[m]);
    } else {
      totals_0[m] = add_lanes(team, lane, first, totals_0[m]);
      totals_1[m] = add_lanes(team, lane, first + 1u, totals_1[m]);
      totals_2[m] = add_lanes(team, lane, first + 2u, totals_2[m]);
      totals_3[m] = add_lanes(team, lane, first + 3u, totals_3[m]);
    }
  }
  wait_for_lanes();

  // One lane an output.
  for (var output = lane; output < WEIGHT_ROWS * ROWS; output += LANES_PER_ROW) {
    let m = output / WEIGHT_ROWS;
    let row = output % WEIGHT_ROWS;
    var added = vec2(0);
    // A choice among registers; an index that is not constant would move the sums to memory.
    for (var i = 0u; i < ROWS; i++) {
      let low = select(totals_0[i], totals_1[i], row == 1u);
      let high = select(totals_2[i], totals_3[i], row == 3u);
      added = select(added, select(low, high, row >= 2u), i == m);
    }
    let n = n_base + row;
    if n < p_LINEAR.n {
      let e_x = row_exponent_of(m_base + m);
      let bits = result_bits(sum_of(team, output, added), p_LINEAR.weight_exponent, e_x);
      if QUANTIZES && LINEARu == 1u {
        let value = bf16_from_result(bits);
        y_blocks[m * BLOCK_SIZE + team * WEIGHT_ROWS + row] = value;
        atomicMax(&y_maxima[m], magnitude_of(value));
      } else {
        store_LINEAR((m_base + m) * p_LINEAR.n_total + p_LINEAR.n_first + n, bits);
      }
    }
  }
  if QUANTIZES && LINEARu == 1u {
    quantize_outputs(thread, m_base, p_LINEAR.n_first / BLOCK_SIZE + tile, p_LINEAR.n_total / BLOCK_SIZE);
  }
}
