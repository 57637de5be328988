// Where the rows that are worked on lie: as the importer hands them over, and as they are packed.

import type { KernelMemory, Region } from './kernel_memory.js';

/** Takes its regions from the memory. Every region is for `rows` rows or less, row after row. */
export class SliceSpace {
  /** u8[rows, K/2], even k in the low nibble. */
  readonly qdata: Region;
  /** f32[rows, G] */
  readonly scale: Region;
  /** f32[rows, G]: zero points or offsets. */
  readonly second: Region;
  /** bf16 or f16 [rows, G] */
  readonly packedScale: Region;
  /** bf16 or f16 [rows, G]: zero points or offsets. */
  readonly packedSecond: Region;

  constructor(memory: KernelMemory, rows: number, k: number, nGroups: number) {
    this.qdata = memory.take((rows * k) / 2);
    this.scale = memory.take(4 * rows * nGroups);
    this.second = memory.take(4 * rows * nGroups);
    this.packedScale = memory.take(2 * rows * nGroups);
    this.packedSecond = memory.take(2 * rows * nGroups);
  }
}
