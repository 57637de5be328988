// One kernel of the decoder on arrays: what a test needs to look at an operation alone.

import { BufferPool, STAGING_USAGE } from '../../shaders/buffer_pool.js';
import { readBack } from '../../shaders/device_buffer.js';
import { DeviceGuard } from '../../shaders/device_guard.js';
import { bind } from '../../shaders/dispatches.js';
import { BufferUsage } from '../../shaders/gpu_flags.js';
import type { CompiledKernel, KernelSource } from '../../shaders/pipelines.js';
import { Pipelines } from '../../shaders/pipelines.js';
import { UniformSlots, type UniformWord, uniformAt } from '../../shaders/uniform_slots.js';

export type Words = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

export interface KernelRun {
  readonly constants?: Readonly<Record<string, number>>;
  /** Contents of the storage buffers, in the order of the bindings. */
  readonly storage: readonly Words[];
  /** Structs of the uniforms, in the order of the bindings. */
  readonly uniforms: readonly (readonly UniformWord[])[];
  readonly workgroups: readonly [number, number, number];
}

/** Runs kernels on one device; `edit` changes their sources, to plant a fault. */
export class KernelRunner {
  readonly #pipelines: Pipelines;
  readonly #guard: DeviceGuard;

  constructor(
    device: GPUDevice,
    readonly edit: (code: string) => string = (code) => code,
  ) {
    this.#guard = new DeviceGuard(device);
    this.#pipelines = new Pipelines(this.#guard, { reduction: 'workgroup', dot: 'unpacked' });
  }

  /** The contents of the storage buffers afterwards, as words. */
  async run(source: KernelSource, run: KernelRun): Promise<Uint32Array<ArrayBuffer>[]> {
    const edited = { ...source, code: this.edit(source.code) };
    const { pipeline, bindGroupLayout }: CompiledKernel = await this.#pipelines.compile(edited, run.constants ?? {});
    const { device } = this.#guard;
    const staging = new BufferPool(this.#guard, STAGING_USAGE);
    const usage = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;
    const buffers = await this.#guard.run('a kernel alone', () => {
      const storage = run.storage.map((words) => {
        const buffer = device.createBuffer({ size: words.byteLength, usage });
        device.queue.writeBuffer(buffer, 0, words);
        return buffer;
      });
      const slots = new UniformSlots();
      const uniforms = run.uniforms.map((words) => slots.add(...words));
      const uniformBuffer = slots.create(device, 'uniforms');
      const bindings = [
        ...storage.map((buffer) => ({ buffer })),
        ...uniforms.map((slot) => uniformAt(uniformBuffer, slot)),
      ];
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bind(device, bindGroupLayout, bindings));
      pass.dispatchWorkgroups(...run.workgroups);
      pass.end();
      device.queue.submit([encoder.finish()]);
      return [...storage, uniformBuffer];
    });
    const contents: Uint32Array<ArrayBuffer>[] = [];
    for (const [i, words] of run.storage.entries()) {
      const bytes = await readBack(this.#guard, 'a kernel alone', buffers[i]!, words.byteLength, undefined, staging);
      contents.push(new Uint32Array(bytes.buffer));
    }
    for (const buffer of buffers) buffer.destroy();
    staging.dispose();
    return contents;
  }
}
