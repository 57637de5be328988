// GGUF: Q4_0, Q4_1 and Q4_K blocks, whose scales lie between the codes.

import { f16Values } from './f16.js';
import { isBlockType } from './gguf_types.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
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
    storeSplit(halves, from + 1, qdata, to);
    storeSplit(halves, from + 5, qdata, to + 1);
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
function codesQ41({ halves }: Blocks, first: number, end: number, qdata: Uint32Array): void {
  for (let block = first, from = 10 * first, to = 4 * first; block < end; block++, from += 10, to += 4) {
    storeSplit(halves, from + 2, qdata, to);
    storeSplit(halves, from + 6, qdata, to + 1);
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
function codesQ4K({ halves }: Blocks, first: number, end: number, qdata: Uint32Array): void {
  for (let block = first, to = 32 * first; block < end; block++) {
    const codes = 2 * Q4K_WORDS * block + 8;
    for (let from = codes; from < codes + 64; from += 16, to += 8) {
      for (let i = 0; i < 4; i++) storeSplit(halves, from + 4 * i, qdata, to + i, 4);
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

/** For each two bytes: their low nibbles in byte 0, their high nibbles in byte 2. */
const SPLIT = new Uint32Array(65536);
for (let pair = 0; pair < SPLIT.length; pair++) {
  const low = (pair & 15) | ((pair >> 4) & 0xf0);
  const high = ((pair >> 4) & 15) | ((pair >> 8) & 0xf0);
  SPLIT[pair] = low | (high << 16);
}

/** Eight bytes from `from`: their low nibbles to word `to`, their high nibbles to word `to + apart`. */
function storeSplit(halves: Uint16Array, from: number, qdata: Uint32Array, to: number, apart = 2): void {
  const first = SPLIT[halves[from]!]! | (SPLIT[halves[from + 1]!]! << 8);
  const second = SPLIT[halves[from + 2]!]! | (SPLIT[halves[from + 3]!]! << 8);
  qdata[to] = (first & 0xffff) | (second << 16);
  qdata[to + apart] = (first >>> 16) | (second & ~0xffff);
}
