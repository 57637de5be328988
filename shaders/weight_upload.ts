// A validated weight of any form to the device: cut into row slices, what it keeps of its groups interleaved, copied in pieces.

import { BLOCK_SIZE } from '../core/limits.js';
import type { DeviceGuard } from './device_guard.js';
import { destroySlices, M_FIRST_VALUES, SLOT_BYTES, type WeightSlice } from './device_weight.js';
import { BufferUsage } from './gpu_flags.js';
import { groupWords, groupWordsPerRow, stepWords, type WeightData } from './group_words.js';

/** Large enough for full speed, small enough to report progress and to bound the staging memory of the device. */
const PIECE_BYTES = 16 * 2 ** 20;

/**
 * Copies a validated weight to the device, in pieces, into as many row slices as `maxBindingBytes` asks for.
 * @throws SamebitsError DEVICE_OUT_OF_MEMORY, with nothing left behind
 */
export async function uploadSlices(
  guard: DeviceGuard,
  weight: WeightData,
  weightExponent: number,
  maxBindingBytes: number,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<readonly WeightSlice[]> {
  const { n, k } = weight;
  const rowBytes = k / 2;
  const groupRowBytes = groupWordsPerRow(weight) * 4;
  const fitting = Math.max(1, Math.floor(maxBindingBytes / rowBytes));
  // Whole blocks of y, where one fits, so that they can be quantized.
  const rowsPerSlice = fitting < BLOCK_SIZE ? fitting : fitting - (fitting % BLOCK_SIZE);
  const totalBytes = n * (rowBytes + groupRowBytes);
  const slices: WeightSlice[] = [];
  let doneBytes = 0;
  const write = async (buffer: GPUBuffer, sizeBytes: number, piece: (start: number, end: number) => Uint8Array) => {
    for (let start = 0; start < sizeBytes; start += PIECE_BYTES) {
      const bytes = piece(start, Math.min(start + PIECE_BYTES, sizeBytes));
      await guard.run('the upload of a weight', () => guard.device.queue.writeBuffer(buffer, start, bytes));
      await guard.settle('the upload of a weight', guard.device.queue.onSubmittedWorkDone());
      doneBytes += bytes.byteLength;
      onProgress(doneBytes, totalBytes);
    }
  };
  try {
    for (let nFirst = 0; nFirst < n; nFirst += rowsPerSlice) {
      const rows = Math.min(rowsPerSlice, n - nFirst);
      const slice = createSlice(guard, weight, weightExponent, nFirst, rows);
      slices.push(slice.value);
      await slice.accepted;
      const { qdata, groups } = slice.value;
      await write(qdata, rows * rowBytes, (start, end) =>
        weight.qdata.subarray(nFirst * rowBytes + start, nFirst * rowBytes + end),
      );
      await write(groups, rows * groupRowBytes, (start, end) => {
        const words = groupWords(weight, weightExponent, { nFirst, n: rows }, start / 4, end / 4);
        return new Uint8Array(words.buffer);
      });
    }
    return slices;
  } catch (error) {
    destroySlices(slices);
    throw error;
  }
}

function createSlice(guard: DeviceGuard, weight: WeightData, weightExponent: number, nFirst: number, n: number) {
  const { device } = guard;
  const usage = BufferUsage.STORAGE | BufferUsage.COPY_DST;
  return guard.scoped('a weight', (): WeightSlice => {
    const params = device.createBuffer({
      label: 'weight params',
      size: (1 + M_FIRST_VALUES) * SLOT_BYTES,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(params, 0, paramWords(weight, weightExponent, nFirst, n));
    return {
      nFirst,
      n,
      qdata: device.createBuffer({ label: 'qdata', size: (n * weight.k) / 2, usage }),
      groups: device.createBuffer({ label: 'groups', size: n * groupWordsPerRow(weight) * 4, usage }),
      params,
    };
  });
}

/** Slot 0: Params of quantize_activations.wgsl. Slot 1 + mFirst: Params of int4_plain_mm.wgsl. */
function paramWords(weight: WeightData, weightExponent: number, nFirst: number, n: number): Int32Array<ArrayBuffer> {
  const slotWords = SLOT_BYTES / 4;
  const words = new Int32Array((1 + M_FIRST_VALUES) * slotWords);
  const blocks = weight.k / BLOCK_SIZE;
  const groupShift = Math.max(0, Math.round(Math.log2(weight.groupSize / BLOCK_SIZE)));
  const { center } = weight.form;
  const zero = 0;
  words[0] = blocks;
  for (let mFirst = 0; mFirst < M_FIRST_VALUES; mFirst++) {
    const params = [n, nFirst, weight.n, blocks, groupShift, weightExponent, mFirst, zero, center, stepWords(weight)];
    words.set(params, (1 + mFirst) * slotWords);
  }
  return words;
}
