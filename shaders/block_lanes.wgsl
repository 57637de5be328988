// bf16 rows that a kernel has just made, to int8 codes and run terms: what quantize_activations.wgsl gives for them, without
// the way through memory. Stands after block_codes.wgsl, in kernels with THREADS lanes and bindings `codes` and `run_terms`.
//
// A lane owns 8 consecutive k, four lanes a block. The largest word of a row must have been cleared.

const LANE_SIZE = 8u;
const LANES_PER_BLOCK = BLOCK_SIZE / LANE_SIZE;

/// Activations of a run: 32, or 16 when groupSize is 16.
override RUN_SIZE: u32 = 32u;

var<workgroup> lane_maxima: array<u32, THREADS>;
var<workgroup> lane_sums: array<i32, THREADS>;

/// Words of run_terms in a row: its largest word, and those of its runs, two each.
fn term_words(blocks: u32) -> u32 {
  return 2u * (1u + blocks * (BLOCK_SIZE / RUN_SIZE));
}

/// The largest magnitude among 8 bf16 values.
fn largest(words: vec4<u32>) -> u32 {
  let pair = max(words & vec4(0x7fffu), (words >> vec4(16u)) & vec4(0x7fffu));
  return max(max(pair.x, pair.y), max(pair.z, pair.w));
}

/// Stores 8 values of row `row` of `blocks` blocks: those from 8 * column; nothing where that is after the end of the row.
/// All lanes of a workgroup call this, with columns that follow each other.
fn quantize_lane(words: vec4<u32>, lane: u32, row: u32, column: u32, blocks: u32) {
  lane_maxima[lane] = largest(words);
  workgroupBarrier();
  let first = lane - lane % LANES_PER_BLOCK;
  let block_max = max(
    max(lane_maxima[first], lane_maxima[first + 1u]),
    max(lane_maxima[first + 2u], lane_maxima[first + 3u]),
  );
  let inverse = inverse_of(block_max);
  var even = 0u;
  var odd = 0u;
  var sum = 0;
  for (var i = 0u; i < 4u; i++) {
    let low = quantize_code(words[i] & 0xffffu, block_max, inverse);
    let high = quantize_code(words[i] >> 16u, block_max, inverse);
    even |= (u32(low) & 0xffu) << (8u * i);
    odd |= (u32(high) & 0xffu) << (8u * i);
    sum += low + high;
  }
  lane_sums[lane] = sum;
  workgroupBarrier();
  if column >= blocks * LANES_PER_BLOCK {
    return;
  }
  let word = (row * blocks + column / LANES_PER_BLOCK) * 8u + column % LANES_PER_BLOCK;
  codes[word] = even;
  codes[word + 4u] = odd;
  let lanes_per_run = RUN_SIZE / LANE_SIZE;
  let scale_word = u32(scale_word_of(block_max));
  if column % lanes_per_run == 0u {
    var asum = 0;
    for (var i = 0u; i < lanes_per_run; i++) {
      asum += lane_sums[lane + i];
    }
    let term = row * term_words(blocks) + 2u * (1u + column / lanes_per_run);
    atomicStore(&run_terms[term], scale_word);
    atomicStore(&run_terms[term + 1u], bitcast<u32>(f32(asum)));
  }
  if column % LANES_PER_BLOCK == 0u {
    atomicMax(&run_terms[row * term_words(blocks)], scale_word + WORD_BIAS);
  }
}
