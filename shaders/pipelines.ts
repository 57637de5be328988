// The kernels compiled for one device: modules once, pipelines once per specialisation.

import { SamebitsError } from '../core/errors.js';
import type { OutputType } from '../core/reference.js';
import type { ScaleLayout } from '../core/validate.js';
import { type DeviceGuard, failure } from './device_guard.js';
import dot4Packed from './dot4_packed.wgsl?raw';
import dot4Unpacked from './dot4_unpacked.wgsl?raw';
import { SHADER_STAGE_COMPUTE } from './gpu_flags.js';
import int4PlainMM from './int4_plain_mm.wgsl?raw';
import quantizeActivations from './quantize_activations.wgsl?raw';
import readBandwidth from './read_bandwidth.wgsl?raw';

/** How four products of bytes are summed: one instruction, or plain i32 arithmetic. The bits are the same. */
export type DotVariant = 'packed' | 'unpacked';

/** One specialisation of int4_plain_mm. */
export interface MatmulVariant {
  /** Rows of x per pass, 1..4. */
  readonly rows: number;
  readonly runSize: number;
  readonly outputType: OutputType;
  readonly layout: ScaleLayout;
}

type BindingType = 'read-only-storage' | 'storage' | 'uniform';

// In the order of the bindings, which is the order of the operands of the CUDA twins; uniforms come last.
const QUANTIZE_BINDINGS: readonly BindingType[] = ['read-only-storage', 'storage', 'storage', 'storage', 'uniform'];
const MATMUL_BINDINGS: readonly BindingType[] = [
  'read-only-storage',
  'read-only-storage',
  'read-only-storage',
  'read-only-storage',
  'read-only-storage',
  'storage',
  'uniform',
];
const READ_BINDINGS: readonly BindingType[] = ['read-only-storage', 'storage', 'uniform'];

/** The WGSL of every module that this backend compiles. */
export const MODULE_SOURCES = {
  quantize_activations: quantizeActivations,
  int4_plain_mm_packed: dot4Packed + int4PlainMM,
  int4_plain_mm_unpacked: dot4Unpacked + int4PlainMM,
  read_bandwidth: readBandwidth,
} as const;

interface Kernel {
  readonly entryPoint: string;
  readonly module: GPUShaderModule;
  readonly bindGroupLayout: GPUBindGroupLayout;
  readonly layout: GPUPipelineLayout;
}

/** Modules, layouts and pipelines of one device. */
export class Pipelines {
  readonly #compiled = new Map<string, Promise<GPUComputePipeline>>();

  private constructor(
    readonly guard: DeviceGuard,
    readonly dot: DotVariant,
    /** Why the packed variant is not the one in use, when it was tried. */
    readonly dotReason: string | null,
    readonly quantizeKernel: Kernel,
    readonly matmulKernel: Kernel,
    readonly readKernel: Kernel,
  ) {}

  /** @throws SamebitsError DEVICE_FAILURE when a module does not compile, or compiles with any message */
  static async create(guard: DeviceGuard, dot: DotVariant | 'auto'): Promise<Pipelines> {
    const make = (entryPoint: string, module: keyof typeof MODULE_SOURCES, bindings: readonly BindingType[]) =>
      makeKernel(guard, entryPoint, module, bindings);
    const [quantizeKernel, readKernel] = await Promise.all([
      make('quantize_activations', 'quantize_activations', QUANTIZE_BINDINGS),
      make('read_bandwidth', 'read_bandwidth', READ_BINDINGS),
    ]);
    let variant: DotVariant = dot === 'unpacked' ? 'unpacked' : 'packed';
    let reason: string | null = null;
    let matmulKernel: Kernel;
    try {
      matmulKernel = await make('int4_plain_mm', `int4_plain_mm_${variant}`, MATMUL_BINDINGS);
    } catch (error) {
      guard.requirePresent();
      if (dot !== 'auto' || !(error instanceof SamebitsError)) throw error;
      variant = 'unpacked';
      reason = error.got;
      matmulKernel = await make('int4_plain_mm', 'int4_plain_mm_unpacked', MATMUL_BINDINGS);
    }
    return new Pipelines(guard, variant, reason, quantizeKernel, matmulKernel, readKernel);
  }

  quantize(runSize: number): Promise<GPUComputePipeline> {
    return this.#pipeline(this.quantizeKernel, { RUN_SIZE: runSize });
  }

  matmul(variant: MatmulVariant): Promise<GPUComputePipeline> {
    return this.#pipeline(this.matmulKernel, {
      ROWS: variant.rows,
      RUN_SIZE: variant.runSize,
      OUTPUT_BF16: Number(variant.outputType === 'bf16'),
      NATIVE_SCALES: Number(variant.layout === 'native'),
    });
  }

  readBandwidth(): Promise<GPUComputePipeline> {
    return this.#pipeline(this.readKernel, {});
  }

  #pipeline(kernel: Kernel, constants: Record<string, number>): Promise<GPUComputePipeline> {
    const label = `${kernel.entryPoint} ${JSON.stringify(constants)}`;
    let pipeline = this.#compiled.get(label);
    if (pipeline === undefined) {
      const { module, entryPoint, layout } = kernel;
      const { value, accepted } = this.guard.scoped(`the compilation of ${label}`, () =>
        this.guard.device.createComputePipelineAsync({ label, layout, compute: { module, entryPoint, constants } }),
      );
      const compiled = this.guard.settle(`the compilation of ${label}`, value);
      pipeline = accepted.then(() => compiled);
      this.#compiled.set(label, pipeline);
      pipeline.catch(() => this.#compiled.delete(label));
    }
    return pipeline;
  }
}

async function makeKernel(
  guard: DeviceGuard,
  entryPoint: string,
  source: keyof typeof MODULE_SOURCES,
  bindings: readonly BindingType[],
): Promise<Kernel> {
  const { device } = guard;
  const what = `the compilation of ${source}`;
  const { value: module, accepted } = guard.scoped(what, () =>
    device.createShaderModule({ label: source, code: MODULE_SOURCES[source] }),
  );
  const { messages } = await guard.settle(what, module.getCompilationInfo());
  if (messages.length > 0) {
    const text = messages.map((m) => `${m.type} at ${m.lineNum}:${m.linePos}: ${m.message}`).join('; ');
    throw failure(what, new Error(text));
  }
  await accepted;
  return guard.run(`the layout of ${entryPoint}`, () => {
    const bindGroupLayout = device.createBindGroupLayout({
      label: entryPoint,
      entries: bindings.map((type, binding) => ({ binding, visibility: SHADER_STAGE_COMPUTE, buffer: { type } })),
    });
    const layout = device.createPipelineLayout({ label: entryPoint, bindGroupLayouts: [bindGroupLayout] });
    return { entryPoint, module, bindGroupLayout, layout };
  });
}
