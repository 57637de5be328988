// GGUF: Q4_0, Q4_1 and Q4_K blocks, whose scales lie between the codes.

import { f16Values } from './f16.js';
import { isBlockType } from './gguf_types.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { gather } from './nibbles.js';
import { readRows, rowBlocks } from './part_reader.js';
import { SliceBuffers } from './slice_buffers.js';
import { type Found, foundWeight, type SourceRows, type SourceWeight } from './source_weight.js';
import type { ModelTensor } from './tensor_file.js';
import { u16View } from './views.js';

const GROUP_SIZE = 32;

/** Blocks of one call of a kernel: engines optimize what is called often. */
const CHUNK_BLOCKS = 1024;

/** The bytes of some rows of blocks, as the kernels want them. */
interface Blocks {
  readonly halves: Uint16Array;
  readonly words: Uint32Array;
  /** Every f16 value by its bits. */
  readonly f16: Float32Array;
}

/** How blocks of one type are read. */
interface BlockReader {
  /** Codes of a block: as many groups of 32. */
  readonly groups: number;
  /** The codes of blocks `first`..`end` to their places in `qdata`. */
  readonly codes: (blocks: Blocks, first: number, end: number, qdata: Uint32Array) => void;
  /** The exact scales and offsets of groups `first`..`end`, from the start of the arrays. */
  readonly scales: (blocks: Blocks, first: number, end: number, scale: Float64Array, offset: Float64Array) => void;
}

const READERS: Readonly<Partial<Record<string, BlockReader>>> = {
  Q4_0: { groups: 1, codes: codesQ40, scales: scalesQ40 },
  Q4_1: { groups: 1, codes: codesQ41, scales: scalesQ41 },
  Q4_K: { groups: 8, codes: codesQ4K, scales: scalesQ4K },
};

/** Tensors of block types; those of 4 bits become weights, the others stay behind. */
export async function importGguf(model: ModelCheckpoint, _layout: LayoutChoice): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const [name, tensor] of model.tensors) {
    if (!isBlockType(tensor.dtype)) continue;
    const reader = READERS[tensor.dtype];
    const left = (reason: string) => found.push({ kind: 'left', name, parts: [tensor], reason });
    if (!reader) left(`${tensor.dtype} is not a 4-bit type that can be packed`);
    else if (tensor.shape.length !== 2) left(`not a matrix, rank ${tensor.shape.length}`);
    else found.push(await foundWeight(name, [tensor], () => blockWeight(tensor, reader)));
  }
  return found;
}

function blockWeight(tensor: ModelTensor, reader: BlockReader): SourceWeight {
  const { name, dtype, sizeBytes } = tensor;
  const [n = 0, k = 0] = tensor.shape;
  async function* slices(buffers = new SliceBuffers()): AsyncGenerator<SourceRows> {
    for (const { firstRow, n: rows } of rowBlocks(n, sizeBytes / n)) {
      const bytes = await readRows(tensor, firstRow, rows, buffers);
      const qdata = buffers.bytes('qdata', (rows * k) / 2);
      const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
      const blocks = { halves: u16View(bytes), words, f16: f16Values() };
      const count = (rows * k) / GROUP_SIZE;
      for (let first = 0; first < count / reader.groups; first += CHUNK_BLOCKS) {
        const end = Math.min(first + CHUNK_BLOCKS, count / reader.groups);
        reader.codes(blocks, first, end, new Uint32Array(qdata.buffer, 0, qdata.length / 4));
      }
      const groups = {
        count,
        read: (first: number, end: number, scale: Float64Array, offset: Float64Array) =>
          reader.scales(blocks, first, end, scale, offset),
      };
      yield { firstRow, n: rows, qdata, groups, readBytes: bytes.byteLength };
    }
  }
  return { name, format: `gguf:${dtype}`, parts: [tensor], n, k, groupSize: GROUP_SIZE, slices };
}

/** 18 bytes: d f16, then 16 bytes with code j in the low and code j + 16 in the high nibble. `w = (q - 8) * d`. */
function codesQ40({ halves }: Blocks, first: number, end: number, qdata: Uint32Array): void {
  for (let block = first, from = 9 * first, to = 4 * first; block < end; block++, from += 9, to += 4) {
    const a = halves[from + 1]! | (halves[from + 2]! << 16);
    const b = halves[from + 3]! | (halves[from + 4]! << 16);
    const c = halves[from + 5]! | (halves[from + 6]! << 16);
    const d = halves[from + 7]! | (halves[from + 8]! << 16);
    qdata[to] = lowNibbles(a, b);
    qdata[to + 1] = lowNibbles(c, d);
    qdata[to + 2] = highNibbles(a, b);
    qdata[to + 3] = highNibbles(c, d);
  }
}

function scalesQ40(
  { halves, f16 }: Blocks,
  first: number,
  end: number,
  scale: Float64Array,
  offset: Float64Array,
): void {
  for (let group = first, to = 0; group < end; group++, to++) {
    const d = f16[halves[9 * group]!]!;
    scale[to] = d;
    offset[to] = -8 * d;
  }
}

/** 20 bytes: d and m f16, then codes as in Q4_0. `w = q * d + m`. */
function codesQ41({ words }: Blocks, first: number, end: number, qdata: Uint32Array): void {
  for (let block = first, from = 5 * first, to = 4 * first; block < end; block++, from += 5, to += 4) {
    const a = words[from + 1]!;
    const b = words[from + 2]!;
    const c = words[from + 3]!;
    const d = words[from + 4]!;
    qdata[to] = lowNibbles(a, b);
    qdata[to + 1] = lowNibbles(c, d);
    qdata[to + 2] = highNibbles(a, b);
    qdata[to + 3] = highNibbles(c, d);
  }
}

function scalesQ41(
  { words, f16 }: Blocks,
  first: number,
  end: number,
  scale: Float64Array,
  offset: Float64Array,
): void {
  for (let group = first, to = 0; group < end; group++, to++) {
    const head = words[5 * group]!;
    scale[to] = f16[head & 0xffff]!;
    offset[to] = f16[head >>> 16]!;
  }
}

const Q4K_WORDS = 36;
const Q4K_GROUPS = 8;

/**
 * 144 bytes for 256 codes: d and dmin f16; 6-bit scales and minimums of eight groups in 12 bytes; four chunks of 32 bytes,
 * each with one group in its low and the next in its high nibbles. `w = (d * sc) * q - dmin * m`.
 */
function codesQ4K({ words }: Blocks, first: number, end: number, qdata: Uint32Array): void {
  for (let block = first, to = 32 * first; block < end; block++) {
    const codes = Q4K_WORDS * block + 4;
    for (let from = codes; from < codes + 32; from += 8, to += 8) {
      for (let i = 0; i < 4; i++) {
        const a = words[from + 2 * i]!;
        const b = words[from + 2 * i + 1]!;
        qdata[to + i] = lowNibbles(a, b);
        qdata[to + 4 + i] = highNibbles(a, b);
      }
    }
  }
}

function scalesQ4K(
  { words, f16 }: Blocks,
  first: number,
  end: number,
  scale: Float64Array,
  offset: Float64Array,
): void {
  for (let group = first, to = 0; group < end; group++, to++) {
    const from = Math.floor(group / Q4K_GROUPS) * Q4K_WORDS;
    const j = group % Q4K_GROUPS;
    const head = words[from]!;
    // Scales 0..3 and minimums 0..3 are six bits of a byte each; the others take their two top bits from those bytes.
    const shift = 8 * (j & 3);
    const a = words[from + 1]! >>> shift;
    const b = words[from + 2]! >>> shift;
    const c = words[from + 3]! >>> shift;
    const isLow = j < 4;
    scale[to] = f16[head & 0xffff]! * (isLow ? a & 63 : (c & 15) | ((a >>> 2) & 48));
    offset[to] = -f16[head >>> 16]! * (isLow ? b & 63 : ((c >>> 4) & 15) | ((b >>> 2) & 48));
  }
}

function lowNibbles(first: number, second: number): number {
  return gather(first & 0x0f0f0f0f) | (gather(second & 0x0f0f0f0f) << 16);
}

function highNibbles(first: number, second: number): number {
  return gather((first >>> 4) & 0x0f0f0f0f) | (gather((second >>> 4) & 0x0f0f0f0f) << 16);
}
