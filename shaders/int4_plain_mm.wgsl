// int4_plain_mm: y = x · weightᵀ from int8 codes and 4-bit weights, with the bits that NUMERICS.md defines.
// dot4 comes from dot4_packed.wgsl or dot4_unpacked.wgsl, the sums over lanes from reduce_subgroup.wgsl or
// reduce_workgroup.wgsl, scale words and codes from block_codes.wgsl, what a block adds from block_terms.wgsl;
// int4_plain_mm_linear.wgsl follows, once for each linear that shares the dispatch.
//
// Math:     per run, dp = sum of q * a, t = dp - z * asum, c = (s * d_b) * t; with an offset c = (s * d_b) * (dp - center * asum)
//           and another, (o * d_b) * asum; y = 2^(E_w + E_x) * sum of c, summed as integers of 2^-32 and rounded once. Where a
//           later linear reads the y of the first one, it is quantized too.
// Layout:   qdata u8[N, K/2], a block of 32 codes is one vec4<u32>, even k in the low nibbles; groups, for each form of a
//           weight what it keeps of its groups (group_words.ts writes them):
//           plain   u32[N, nGroups], scale in the low half, zero point or offset in the high half ([nGroups, N] with
//                   NATIVE_SCALES, for the benchmark). As bf16, scales and offsets times 2^-E_w and subnormals as zeros; as
//                   f16, as they are.
//           NESTED  u32[N, K/256, step_words], first f16 steps, of the scales in the low half and of the others in the high
//                   one; then for each group u8 codes, of its scale in the low byte and of the other in the high one, two
//                   groups a word, but one where it is all of the 256.
//           codes, run_terms as quantize_activations writes them; y f32 or bf16 [M, N], as bits; quantized, codes and then
//           run_terms of y, whose largest words begin as 0, where QUANTIZES. A slice of a large weight has buffers of its
//           own; its rows are columns n_first .. of y.
// Threads:  a workgroup owns a tile of rows of weights, a team of LANES_PER_ROW lanes some of them; a lane takes every
//           LANES_PER_ROW-th block of its rows, so that neighbours read neighbouring 16 bytes, four of which are on their way
//           at once: two blocks of two rows, or one of four, which a workgroup of few threads reads a whole block of y with.
//           ROWS rows of x share each block of weights. Workgroups of x and y count tiles, first those of the first linear;
//           z counts passes of ROWS.
// Traffic:  reads N K / 2 + 4 N nGroups bytes, or where NESTED 2 N nGroups + N K / 64 in place of the latter, for every ROWS
//           rows of x, and the activations from cache; writes y once, and 3 M N / 2 bytes of its codes and terms where they
//           are wanted.
// Numerics: NUMERICS.md sections 3 and 4 and its other forms of a weight; section 1 for the codes of y. What is computed in
//           f32 passes a fence before anything consumes it, so that no adapter may fuse or reassociate it; exact products
//           that a product consumes, too, for (s * code) * d regrouped rounds elsewhere. None is needed by scalings by powers
//           of two; by center * asum and by z * asum of a z that is not nested, exact products that a sum consumes; and by a
//           nested z = kz * tz, since kz * tz, tz * asum and kz * asum are exact, so that all ways round once. A scale too
//           small for s * 2^-E_w in bf16, or for d_b * 2^-E_w, is too small to be seen in C. Sums are of integers, and the
//           last rounding is in u32. f16 is decoded with integers, because conversions may flush its subnormals.
// Limits:   K at most 65504, or hi could overflow. At most 3 linears a dispatch. y is quantized only where N is a multiple of
//           32, so that a tile is a block.

const MAX_ROWS = 4u;
const FRACTION_BITS = 32;
/// T = hi * 2^LO_BITS + lo, see block_terms.wgsl.
const LO_BITS = 18u;
/// Instead of an exponent: a row with Inf or NaN.
const NAN_ROW = 0x7fffffff;
/// bits(P(128)): the word of a block with e_b = 0 and the least significand.
const UNIT_SCALE_WORD = 0x3c010204;
/// The least word, relative to its row, that counts: e_b - E_x = -100.
const MIN_RELATIVE_WORD = UNIT_SCALE_WORD - (100 << 23);
const NAN_BITS = 0x7fc00000u;

/// Whether the first linear of the dispatch leaves its y as codes too; a workgroup's rows are then a block of it.
override QUANTIZES: bool = false;
/// Teams of a workgroup: BLOCK_SIZE / WEIGHT_ROWS where QUANTIZES; else few, so that work is handed out in small portions.
override TEAMS: u32 = 1u;
/// Rows of weights of a team, 2 or 4: of 2 a lane takes two blocks at once.
override WEIGHT_ROWS: u32 = 2u;
/// Rows of x per pass, 1..MAX_ROWS.
override ROWS: u32 = 1u;
/// Activations of a run: 32, or 16 when groupSize is 16.
override RUN_SIZE: u32 = 32u;
override OUTPUT_BF16: bool = false;
override NATIVE_SCALES: bool = false;
override THREADS: u32 = LANES_PER_ROW * TEAMS;

/// Of one linear.
struct Params {
  /// Rows of weights in this slice.
  n: u32,
  /// The column of y of the slice's first row.
  n_first: u32,
  /// Columns of y.
  n_total: u32,
  /// K / 32
  blocks: u32,
  /// log2 of the blocks of a group; 0 for half a block
  group_shift: u32,
  /// E_w
  weight_exponent: i32,
  /// The first row of x of this dispatch.
  m_first: u32,
  /// 0, which no compiler knows.
  zero: u32,
  /// What codes are counted from, where they have an offset.
  center: i32,
  /// Words of the groups of 256 weights, where NESTED.
  step_words: u32,
}

/// Codes of the even and of the odd k of a block.
struct Codes {
  even: vec4<u32>,
  odd: vec4<u32>,
}

@group(0) @binding(0) var<storage, read> codes: array<Codes>;
@group(0) @binding(1) var<storage, read> run_terms: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> quantized: array<atomic<u32>>;

/// The tile's outputs as bf16 bits, where they are quantized, and the largest magnitude of each row.
var<workgroup> y_blocks: array<u32, BLOCK_SIZE * ROWS>;
var<workgroup> y_maxima: array<atomic<u32>, ROWS>;
var<workgroup> run_sums: array<atomic<i32>, 2u * ROWS>;

/// A block of one row of x.
struct Block {
  codes: Codes,
  /// HI_SCALE * d_b, times 2^-E_w where F16
  scale: f32,
  /// asum of its first run, and of its second if it has two.
  sums: vec2<f32>,
}

/// Four blocks of weights.
struct Weights {
  block_0: vec4<u32>,
  block_1: vec4<u32>,
  block_2: vec4<u32>,
  block_3: vec4<u32>,
  /// Of its first run, and of its second if it has two; where NESTED codes of its runs, and steps.
  words_0: vec2<u32>,
  words_1: vec2<u32>,
  words_2: vec2<u32>,
  words_3: vec2<u32>,
}

/// v, as a value that the compiler cannot see through: what is computed before is rounded before.
fn fence(v: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(v) | p_1.zero);
}

/// Terms of a row: its largest word, and those of its runs.
fn terms_per_row(blocks: u32) -> u32 {
  return 1u + blocks * (BLOCK_SIZE / RUN_SIZE);
}

/// E_x of row m of x, or NAN_ROW.
fn row_exponent_of(m: u32) -> i32 {
  let word = i32(run_terms[m * terms_per_row(p_1.blocks)].x - WORD_BIAS);
  return select(select((word - UNIT_SCALE_WORD) >> 23u, 0, word == ZERO_BLOCK), NAN_ROW, word == NAN_BLOCK);
}

/// A block of row m of x, or one that adds nothing.
fn load_block(m: u32, block: u32, counts: bool, e_x: i32, unit: f32) -> Block {
  let terms = run_terms[m * terms_per_row(p_1.blocks) + 1u + block * (BLOCK_SIZE / RUN_SIZE)];
  var sums = vec2(bitcast<f32>(terms.y), 0.0);
  if RUN_SIZE < BLOCK_SIZE {
    sums.y = bitcast<f32>(run_terms[m * terms_per_row(p_1.blocks) + 2u + 2u * block].y);
  }
  let bits = i32(terms.x) - (e_x << 23u);
  let scale = select(0.0, bitcast<f32>(bits), counts && bits >= MIN_RELATIVE_WORD);
  return Block(codes[m * p_1.blocks + block], scale * unit, sums);
}

/// The f32 bits of T * 2^exponent, T = total.x * 2^18 + total.y: one rounding, ties to even.
fn output_bits(total: vec2<i32>, exponent: i32) -> u32 {
  // T as a sign and a magnitude of 49 bits in two words.
  let lo_mask = (1 << LO_BITS) - 1;
  var hi = total.x + (total.y >> LO_BITS);
  var lo = total.y & lo_mask;
  let sign = u32(hi) & 0x80000000u;
  if hi < 0 {
    hi = -hi - select(0, 1, lo != 0);
    lo = -lo & lo_mask;
  }
  let upper = u32(hi) >> (32u - LO_BITS);
  let lower = (u32(hi) << LO_BITS) | u32(lo);
  if (upper | lower) == 0u {
    return 0u;
  }
  let top = select(firstLeadingBit(lower), 32u + firstLeadingBit(upper), upper != 0u);
  var significand: u32;
  if top <= 23u {
    significand = lower << (23u - top);
  } else {
    let shift = top - 23u;
    let kept = (upper << (32u - shift)) | (lower >> shift);
    let rest = lower & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    significand = kept + u32(rest > half || (rest == half && (kept & 1u) == 1u));
  }
  let carry = significand >> 24u;
  let biased = i32(top + carry) + exponent + 127;
  if biased < 1 {
    return sign;
  }
  if biased > 254 {
    return sign | 0x7f800000u;
  }
  return sign | (u32(biased) << 23u) | ((significand >> carry) & 0x007fffffu);
}

/// f32 bits to bf16 bits, ties to even; the one NaN that gets here keeps its pattern.
fn bf16_from_result(bits: u32) -> u32 {
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

/// The bits of an output from its sum.
fn result_bits(sum: vec2<i32>, weight_exponent: i32, e_x: i32) -> u32 {
  return select(output_bits(sum, weight_exponent + e_x - FRACTION_BITS), NAN_BITS, e_x == NAN_ROW);
}

/// Stores the tile's outputs, and quantizes them: one block of each row, block `block` of rows m_base .. of the x that y will
/// be. They are in y_blocks; a thread stores two of them as a word, and makes a word of codes.
fn quantize_outputs(thread: u32, m_base: u32, block: u32, blocks: u32) {
  workgroupBarrier();
  for (var i = 2u * thread; i < BLOCK_SIZE * ROWS; i += 2u * THREADS) {
    let first = (m_base + i / BLOCK_SIZE) * blocks * BLOCK_SIZE + block * BLOCK_SIZE + i % BLOCK_SIZE;
    atomicStore(&y_1[first / 2u], y_blocks[i] | (y_blocks[i + 1u] << 16u));
  }
  let runs = BLOCK_SIZE / RUN_SIZE;
  let m = thread / 8u;
  let word = thread % 8u;
  // Words 0 .. 3 hold even k, words 4 .. 7 odd ones, each of 8 consecutive k.
  let run = word % 4u * 8u / RUN_SIZE;
  var block_max = 0u;
  if m < ROWS {
    block_max = atomicLoad(&y_maxima[m]);
    let inverse = inverse_of(block_max);
    var packed = 0u;
    var sum = 0;
    for (var i = 0u; i < 4u; i++) {
      let k = word % 4u * 8u + word / 4u + 2u * i;
      let code = quantize_code(y_blocks[m * BLOCK_SIZE + k], block_max, inverse);
      packed |= (u32(code) & 0xffu) << (8u * i);
      sum += code;
    }
    atomicStore(&quantized[((m_base + m) * blocks + block) * 8u + word], packed);
    atomicAdd(&run_sums[2u * m + run], sum);
  }
  workgroupBarrier();
  if m < ROWS && (word == 0u || (word == 2u && runs == 2u)) {
    // Four sevenths of the words are codes.
    let row = arrayLength(&quantized) / 7u * 4u + 2u * (m_base + m) * terms_per_row(blocks);
    let term = row + 2u * (1u + runs * block + run);
    let scale_word = u32(scale_word_of(block_max));
    atomicStore(&quantized[term], scale_word);
    atomicStore(&quantized[term + 1u], bitcast<u32>(f32(atomicLoad(&run_sums[2u * m + run]))));
    if word == 0u {
      atomicMax(&quantized[row], scale_word + WORD_BIAS);
    }
  }
}

@compute @workgroup_size(THREADS)
fn int4_plain_mm(
  place: Place,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
) {
  linear_1(workgroup.y * workgroups.x + workgroup.x, workgroup.z, thread_of(place));
}

/// A grid over two dimensions may have some workgroups too many.
fn linear_END(tile: u32, pass_of_rows: u32, thread: u32) {
}
