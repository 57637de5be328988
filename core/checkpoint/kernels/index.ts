// What the conversion calls, compiled by AssemblyScript to one WebAssembly module with SIMD. Arguments are addresses in the
// module's memory, in bytes; whoever calls sees to it that regions are large enough and followed by 64 bytes to spare.

export { transposeAwq } from './awq';
export { flipSigns, packSigned, unpackZeroPoints } from './codes';
export { firstOutside, widenBf16, widenF16 } from './floats';
export { unpackNestedQ4K, unpackQ4K, unpackQ40, unpackQ41 } from './gguf';
export { addChanges, CHUNK_GROUPS, offsets, results, roundGroups, scales, shifts, slopes, specials } from './groups';
export { narrowed, narrowGroups } from './narrow';
export { addRowChanges, rowResults } from './row_changes';
export { transpose16, transpose32 } from './transpose';

/** Where the caller's regions may begin. */
export function regionsStart(): usize {
  return (__heap_base + 63) & ~63;
}
