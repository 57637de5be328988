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

/** Groups of one call of a kernel: engines optimize what is called often. */
const CHUNK_GROUPS = 1024;

/** Blocks and where they go: codes into `qdata`, one scale and offset for every 32 of them. */
interface Blocks {
  readonly halves: Uint16Array;
  readonly words: Uint32Array;
  /** Every f16 value by its bits. */
  readonly f16: Float32Array;
  readonly qdata: Uint32Array;
  readonly scale: Float64Array;
  readonly offset: Float64Array;
}

/** Unpacks groups `first`..`end`, whole blocks. */
type Unpack = (blocks: Blocks, first: number, end: number) => void;

const UNPACK: Readonly<Partial<Record<string, Unpack>>> = { Q4_0: unpackQ40, Q4_1: unpackQ41, Q4_K: unpackQ4K };

/** Tensors of block types; those of 4 bits become weights, the others stay behind. */
export async function importGguf(model: ModelCheckpoint, _layout: LayoutChoice): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const [name, tensor] of model.tensors) {
    if (!isBlockType(tensor.dtype)) continue;
    const unpack = UNPACK[tensor.dtype];
    const left = (reason: string) => found.push({ kind: 'left', name, parts: [tensor], reason });
    if (!unpack) left(`${tensor.dtype} is not a 4-bit type that can be packed`);
    else if (tensor.shape.length !== 2) left(`not a matrix, rank ${tensor.shape.length}`);
    else found.push(await foundWeight(name, [tensor], () => blockWeight(tensor, unpack)));
  }
  return found;
}

function blockWeight(tensor: ModelTensor, unpack: Unpack): SourceWeight {
  const { name, dtype, sizeBytes } = tensor;
  const [n = 0, k = 0] = tensor.shape;
  async function* slices(buffers = new SliceBuffers()): AsyncGenerator<SourceRows> {
    for (const { firstRow, n: rows } of rowBlocks(n, sizeBytes / n)) {
      const bytes = await readRows(tensor, firstRow, rows, buffers);
      const qdata = buffers.bytes('qdata', (rows * k) / 2);
      const scale = buffers.f64('scale', (rows * k) / GROUP_SIZE);
      const offset = buffers.f64('offset', scale.length);
      const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
      const blocks = {
        halves: u16View(bytes),
        words,
        f16: f16Values(),
        qdata: new Uint32Array(qdata.buffer, 0, qdata.length / 4),
        scale,
        offset,
      };
      for (let group = 0; group < scale.length; group += CHUNK_GROUPS) {
        unpack(blocks, group, Math.min(group + CHUNK_GROUPS, scale.length));
      }
      yield { firstRow, n: rows, qdata, scale, offset, readBytes: bytes.byteLength };
    }
  }
  return { name, format: `gguf:${dtype}`, parts: [tensor], n, k, groupSize: GROUP_SIZE, slices };
}

/** 18 bytes: d f16, then 16 bytes with code j in the low and code j + 16 in the high nibble. `w = (q - 8) * d`. */
function unpackQ40({ halves, f16, qdata, scale, offset }: Blocks, firstGroup: number, end: number): void {
  for (let group = firstGroup, from = 9 * group, to = 4 * group; group < end; group++, from += 9, to += 4) {
    const d = f16[halves[from]!]!;
    scale[group] = d;
    offset[group] = -8 * d;
    for (let i = 0; i < 2; i++) {
      const first = halves[from + 1 + 4 * i]! | (halves[from + 2 + 4 * i]! << 16);
      const second = halves[from + 3 + 4 * i]! | (halves[from + 4 + 4 * i]! << 16);
      qdata[to + i] = lowNibbles(first, second);
      qdata[to + 2 + i] = highNibbles(first, second);
    }
  }
}

/** 20 bytes: d and m f16, then codes as in Q4_0. `w = q * d + m`. */
function unpackQ41({ words, f16, qdata, scale, offset }: Blocks, firstGroup: number, end: number): void {
  for (let group = firstGroup, from = 5 * group, to = 4 * group; group < end; group++, from += 5, to += 4) {
    const head = words[from]!;
    scale[group] = f16[head & 0xffff]!;
    offset[group] = f16[head >>> 16]!;
    for (let i = 0; i < 2; i++) {
      const first = words[from + 1 + 2 * i]!;
      const second = words[from + 2 + 2 * i]!;
      qdata[to + i] = lowNibbles(first, second);
      qdata[to + 2 + i] = highNibbles(first, second);
    }
  }
}

const Q4K_WORDS = 36;
const Q4K_GROUPS = 8;

/**
 * 144 bytes for 256 codes: d and dmin f16; 6-bit scales and minimums of eight groups in 12 bytes; four chunks of 32 bytes,
 * each with one group in its low and the next in its high nibbles. `w = (d * sc) * q - dmin * m`.
 */
function unpackQ4K({ words, f16, qdata, scale, offset }: Blocks, firstGroup: number, end: number): void {
  for (let group = firstGroup, to = 4 * group; group < end; group += Q4K_GROUPS) {
    const from = (group / Q4K_GROUPS) * Q4K_WORDS;
    const head = words[from]!;
    const d = f16[head & 0xffff]!;
    const dmin = f16[head >>> 16]!;
    // Scales 0..3 and minimums 0..3 are six bits of a byte each; the others take their two top bits from those bytes.
    const a = words[from + 1]!;
    const b = words[from + 2]!;
    const c = words[from + 3]!;
    const lowScales = a & 0x3f3f3f3f;
    const highScales = (c & 0x0f0f0f0f) | ((a >>> 2) & 0x30303030);
    const lowMinimums = b & 0x3f3f3f3f;
    const highMinimums = ((c >>> 4) & 0x0f0f0f0f) | ((b >>> 2) & 0x30303030);
    for (let j = 0; j < 4; j++) {
      const shift = 8 * j;
      scale[group + j] = d * ((lowScales >>> shift) & 63);
      scale[group + j + 4] = d * ((highScales >>> shift) & 63);
      offset[group + j] = -dmin * ((lowMinimums >>> shift) & 63);
      offset[group + j + 4] = -dmin * ((highMinimums >>> shift) & 63);
    }
    for (let chunk = 0; chunk < 4; chunk++, to += 8) {
      const at = from + 4 + 8 * chunk;
      for (let i = 0; i < 4; i++) {
        const first = words[at + 2 * i]!;
        const second = words[at + 2 * i + 1]!;
        qdata[to + i] = lowNibbles(first, second);
        qdata[to + 4 + i] = highNibbles(first, second);
      }
    }
  }
}

function lowNibbles(first: number, second: number): number {
  return gather(first & 0x0f0f0f0f) | (gather(second & 0x0f0f0f0f) << 16);
}

function highNibbles(first: number, second: number): number {
  return gather((first >>> 4) & 0x0f0f0f0f) | (gather((second >>> 4) & 0x0f0f0f0f) << 16);
}
