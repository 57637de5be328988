// Codes of 4 bits put into qdata's order, even k in the low, odd k in the high nibble; and packed zero points as numbers.

/** Sixteen codes in the low nibbles of each vector, the first lowest, to sixteen bytes of two codes. */
export function pairs(first: v128, second: v128): v128 {
  const byte = i16x8.splat(0xff);
  const a = v128.and(v128.or(first, i16x8.shr_u(first, 4)), byte);
  const b = v128.and(v128.or(second, i16x8.shr_u(second, 4)), byte);
  return i8x16.narrow_i16x8_u(a, b);
}

export function lowNibbles(bytes: v128): v128 {
  return v128.and(bytes, i8x16.splat(15));
}

/** As shifts of bytes are not among the instructions of x86. */
export function highNibbles(bytes: v128): v128 {
  return v128.and(i16x8.shr_u(bytes, 4), i8x16.splat(15));
}

/** Two's complement codes -8..7 to q = s + 8, in place: the top bit of every nibble flips. @param size a multiple of 16 */
export function flipSigns(codes: usize, size: usize): void {
  const tops = i8x16.splat(<i8>0x88);
  for (let at = codes; at < codes + size; at += 16) v128.store(at, v128.xor(v128.load(at), tops));
}

/**
 * One code -8..7 a byte to q = s + 8, two a byte.
 * @param size bytes of the source, a multiple of 32
 * @returns the index of the first byte that holds anything else, or -1
 */
export function packSigned(source: usize, size: usize, out: usize): i32 {
  const eight = i8x16.splat(8);
  const high = i8x16.splat(<i8>0xf0);
  for (let i: usize = 0; i < size; i += 32) {
    const first = i8x16.add(v128.load(source + i), eight);
    const second = i8x16.add(v128.load(source + i + 16), eight);
    if (v128.any_true(v128.and(v128.or(first, second), high))) return firstOutside(source, i);
    v128.store(out + i / 2, pairs(first, second));
  }
  return -1;
}

function firstOutside(source: usize, from: usize): i32 {
  let i = from;
  while (((load<u8>(source + i) + 8) & 0xf0) === 0) i++;
  return <i32>i;
}

/**
 * Zero points of eight rows in each word, to f32[rows, nGroups].
 * @param wordStride bytes from the word of eight rows to that of the next eight
 * @param groupStride bytes from a group's word to the next group's
 * @param wordAddend added to the word, @param addend to the zero point
 * @param isAwq whether even rows are in the low half of a word, odd ones in the high half
 */
export function unpackZeroPoints(
  source: usize,
  wordStride: usize,
  groupStride: usize,
  rows: usize,
  nGroups: usize,
  wordAddend: u32,
  addend: u32,
  isAwq: bool,
  out: usize,
): void {
  for (let first: usize = 0; first < rows; first += 8, source += wordStride) {
    const count = min<usize>(8, rows - first);
    for (let g: usize = 0; g < nGroups; g++) {
      const word = load<u32>(source + g * groupStride) + wordAddend;
      for (let row: usize = 0; row < count; row++) {
        const shift: usize = isAwq ? 2 * row + 14 * (row & 1) : 4 * row;
        store<f32>(out + 4 * ((first + row) * nGroups + g), <f32>(((word >> <u32>shift) & 15) + addend));
      }
    }
  }
}
