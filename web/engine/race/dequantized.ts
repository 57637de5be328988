// The f32 contender: writes the weight out as f32, a piece at a time, and multiplies by the pieces.

import { powerOfTwo } from '../../../core/exact.js';
import { numberFromBf16, SamebitsError } from '../../../core/index.js';
import { readBack } from '../../../shaders/device_buffer.js';
import { DeviceGuard } from '../../../shaders/device_guard.js';
import { WebGPUWeight } from '../../../shaders/device_weight.js';
import { type Dispatch, recordDispatches, spread } from '../../../shaders/dispatches.js';
import { BufferUsage } from '../../../shaders/gpu_flags.js';
import { timePasses } from '../../../shaders/timing.js';
import type { OpenDevice } from '../device_holder.js';
import type { Prepared } from './contenders.js';
import code from './dequantize_then_multiply.wgsl?raw';
import type { RaceWeight } from './tiled_weight.js';

const THREADS = 256;
const ROWS_PER_WORKGROUP = 8;
const WORD_CODES = 8;
/** f32 weights that are held at a time: more than any cache, less than any memory. */
const MAX_PIECE_BYTES = 256 * 2 ** 20;

/** @param faultOf what is wrong with an output f32[N], if anything */
export async function prepareDequantized(
  { backend, gpu }: OpenDevice,
  weight: RaceWeight,
  faultOf: (y: Float32Array) => string | null,
): Promise<Prepared> {
  const { n, k, groupSize } = weight.coalesced;
  const guard = new DeviceGuard(gpu);
  const uploaded = await backend.upload(weight.coalesced);
  const owned: { destroy(): void }[] = [{ destroy: () => uploaded.dispose() }];
  const dispose = () => {
    for (const resource of owned.splice(0).reverse()) resource.destroy();
  };
  try {
    if (!(uploaded instanceof WebGPUWeight)) throw new Error('the f32 way reads weights of the webgpu backend');
    const module = gpu.createShaderModule({ label: 'dequantize then multiply', code });
    const pipelineOf = (entryPoint: string) =>
      guard.settle(
        `the compilation of ${entryPoint}`,
        gpu.createComputePipelineAsync({ label: entryPoint, layout: 'auto', compute: { module, entryPoint } }),
      );
    const [dequantize, multiply] = await Promise.all([pipelineOf('dequantize'), pipelineOf('multiply')]);
    const pieceRows = Math.min(n, Math.max(1, Math.floor(maxPieceBytes(gpu) / (4 * k))));
    const { y, dispatches } = await guard.run('the buffers of the f32 way', () => {
      const create = (size: number, usage: number) => {
        const buffer = gpu.createBuffer({ label: 'f32 way', size, usage });
        owned.push(buffer);
        return buffer;
      };
      const w = create(pieceRows * k * 4, BufferUsage.STORAGE);
      const x = create(k * 4, BufferUsage.STORAGE | BufferUsage.COPY_DST);
      const y = create(n * 4, BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST);
      // On the device scales are s * 2^-E_w: x makes up for it.
      const weightPower = powerOfTwo(weight.coalesced.weightExponent);
      gpu.queue.writeBuffer(
        x,
        0,
        Float32Array.from(weight.x, (bits) => numberFromBf16(bits) * weightPower),
      );
      const bind = (pipeline: GPUComputePipeline, buffers: Readonly<Record<number, GPUBuffer>>) =>
        gpu.createBindGroup({
          layout: pipeline.getBindGroupLayout(0),
          entries: Object.entries(buffers).map(([binding, buffer]) => ({
            binding: Number(binding),
            resource: { buffer },
          })),
        });
      const dispatches: Dispatch[] = [];
      for (const slice of uploaded.slices) {
        const out = { buffer: y, offset: slice.nFirst * 4, size: slice.n * 4 };
        if (out.offset % gpu.limits.minStorageBufferOffsetAlignment !== 0) throw sliceUnaligned(out.offset);
        for (let firstRow = 0; firstRow < slice.n; firstRow += pieceRows) {
          const rows = Math.min(pieceRows, slice.n - firstRow);
          const params = create(16, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
          gpu.queue.writeBuffer(params, 0, new Uint32Array([firstRow, rows, k, Math.log2(groupSize)]));
          dispatches.push({
            pipeline: dequantize,
            bindGroup: bind(dequantize, { 0: params, 1: slice.qdata, 2: slice.groups, 3: w }),
            workgroups: [...spread(Math.ceil((rows * k) / WORD_CODES / THREADS)), 1],
          });
          const bindGroup = gpu.createBindGroup({
            layout: multiply.getBindGroupLayout(0),
            entries: [
              { binding: 0, resource: { buffer: params } },
              { binding: 4, resource: { buffer: w } },
              { binding: 5, resource: { buffer: x } },
              { binding: 6, resource: out },
            ],
          });
          const workgroups = [...spread(Math.ceil(rows / ROWS_PER_WORKGROUP)), 1] as const;
          dispatches.push({ pipeline: multiply, bindGroup, workgroups });
        }
      }
      return { y, dispatches };
    });
    const record = (pass: GPUComputePassEncoder) => recordDispatches(pass, dispatches);
    const codesBytes = weight.coalesced.sizeBytes;
    return {
      movedBytes: codesBytes + 2 * 4 * n * k + 4 * k + 4 * n,
      check: async () => {
        gpu.queue.writeBuffer(y, 0, new Uint8Array(n * 4).fill(0xff));
        const bytes = await readBack(guard, 'the f32 way', y, n * 4, (encoder) => {
          const pass = encoder.beginComputePass();
          record(pass);
          pass.end();
        });
        return faultOf(new Float32Array(bytes.buffer));
      },
      timeUs: async (matvecs) => {
        const repeat = (pass: GPUComputePassEncoder) => {
          for (let i = 0; i < matvecs; i++) record(pass);
        };
        const [elapsedUs = Number.NaN] = await timePasses(guard, { record: repeat }, 1);
        return elapsedUs / matvecs;
      },
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

function maxPieceBytes({ limits }: GPUDevice): number {
  return Math.min(MAX_PIECE_BYTES, limits.maxStorageBufferBindingSize, limits.maxBufferSize);
}

function sliceUnaligned(offset: number): SamebitsError {
  return new SamebitsError('DEVICE_LIMIT', {
    rule: 'a slice of the output must start where this device can bind it',
    expected: 'a multiple of minStorageBufferOffsetAlignment',
    got: `byte ${offset}`,
    fix: 'Race a smaller shape on this device.',
  });
}
