// The kernels compiled for one device: modules once, pipelines once per specialisation.

import type { WeightForm } from '../core/forms.js';
import type { OutputType } from '../core/reference.js';
import type { ScaleLayout } from '../core/validate.js';
import { type DeviceGuard, failure } from './device_guard.js';
import { SHADER_STAGE_COMPUTE } from './gpu_flags.js';
import {
  formConstants,
  type KernelVariant,
  LANES_PER_ROW,
  LINEAR_STORAGE_BUFFERS,
  MAX_LINEARS,
  matmulSource,
  QUANTIZE_SOURCE,
  READ_SOURCE,
  SHARED_STORAGE_BUFFERS,
  TILES,
} from './kernel_sources.js';

/** One specialisation of int4_plain_mm. */
export interface MatmulVariant {
  /** Linears of the dispatch, 1..maxLinears. */
  readonly linears: number;
  /** Rows of x per pass, 1..4. */
  readonly rows: number;
  readonly runSize: number;
  readonly outputType: OutputType;
  readonly layout: ScaleLayout;
  readonly form: WeightForm;
  /** Whether the first linear leaves its y as codes too. */
  readonly quantizes: boolean;
}

/** A pipeline and what its bind groups are made of. */
export interface CompiledKernel {
  readonly pipeline: GPUComputePipeline;
  readonly bindGroupLayout: GPUBindGroupLayout;
}

export type BindingType = 'read-only-storage' | 'storage' | 'uniform';

/** A kernel before it is compiled; its module is told from others by its entry point and the number of its bindings. */
export interface KernelSource {
  readonly entryPoint: string;
  readonly code: string;
  readonly bindings: readonly BindingType[];
}

// In the order of the bindings; uniforms come last.
const QUANTIZE_BINDINGS: readonly BindingType[] = ['read-only-storage', 'storage', 'storage', 'uniform'];
const SHARED_BINDINGS: readonly BindingType[] = ['read-only-storage', 'read-only-storage', 'storage'];
const LINEAR_BINDINGS: readonly BindingType[] = ['read-only-storage', 'read-only-storage', 'storage', 'uniform'];
const READ_BINDINGS: readonly BindingType[] = ['read-only-storage', 'storage', 'uniform'];

interface Kernel {
  readonly entryPoint: string;
  readonly module: GPUShaderModule;
  readonly bindGroupLayout: GPUBindGroupLayout;
  readonly layout: GPUPipelineLayout;
}

/** Modules, layouts and pipelines of one device in one variant. Everything is compiled when it is first asked for. */
export class Pipelines {
  readonly #kernels = new Map<string, Promise<Kernel>>();
  readonly #compiled = new Map<string, Promise<CompiledKernel>>();
  /** Linears that one dispatch may take on this device. */
  readonly maxLinears: number;

  constructor(
    readonly guard: DeviceGuard,
    readonly variant: KernelVariant,
  ) {
    const { maxStorageBuffersPerShaderStage } = guard.device.limits;
    const fitting = Math.floor((maxStorageBuffersPerShaderStage - SHARED_STORAGE_BUFFERS) / LINEAR_STORAGE_BUFFERS);
    this.maxLinears = Math.max(1, Math.min(MAX_LINEARS, fitting));
  }

  /** For people. */
  get details(): Readonly<Record<string, string>> {
    const { reduction, dot } = this.variant;
    const lanes = reduction === 'subgroup' ? this.guard.device.adapterInfo.subgroupMinSize : LANES_PER_ROW;
    return {
      reduction: `${reduction} (${lanes} lanes a row)`,
      dot: dot === 'packed' ? 'packed (dot4I8Packed)' : 'unpacked (i32 arithmetic)',
      linears: `up to ${this.maxLinears} side by side`,
    };
  }

  /** @throws SamebitsError DEVICE_FAILURE when a module does not compile, or compiles with any message */
  quantize(runSize: number): Promise<CompiledKernel> {
    const source = { entryPoint: 'quantize_activations', code: QUANTIZE_SOURCE, bindings: QUANTIZE_BINDINGS };
    return this.compile(source, { RUN_SIZE: runSize });
  }

  /** @throws SamebitsError DEVICE_FAILURE when a module does not compile, or compiles with any message */
  matmul({ linears, rows, runSize, outputType, layout, form, quantizes }: MatmulVariant): Promise<CompiledKernel> {
    const { reduction } = this.variant;
    const { teams, weightRows } = quantizes ? TILES.quantizing : TILES.plain;
    const bindings = [...SHARED_BINDINGS, ...Array.from({ length: linears }, () => LINEAR_BINDINGS).flat()];
    const source = { entryPoint: 'int4_plain_mm', code: matmulSource(this.variant, linears), bindings };
    return this.compile(source, {
      TEAMS: teams,
      WEIGHT_ROWS: weightRows,
      QUANTIZES: Number(quantizes),
      ROWS: rows,
      RUN_SIZE: runSize,
      OUTPUT_BF16: Number(outputType === 'bf16'),
      NATIVE_SCALES: Number(layout === 'native'),
      ...formConstants(form),
      ...(reduction === 'subgroup' ? { LANES_PER_ROW: this.guard.device.adapterInfo.subgroupMinSize } : {}),
    });
  }

  /** @throws SamebitsError DEVICE_FAILURE when a module does not compile, or compiles with any message */
  readBandwidth(): Promise<CompiledKernel> {
    return this.compile({ entryPoint: 'read_bandwidth', code: READ_SOURCE, bindings: READ_BINDINGS }, {});
  }

  /**
   * One specialisation of a kernel; `constants` are its overrides.
   * @throws SamebitsError DEVICE_FAILURE when a module does not compile, or compiles with any message
   */
  compile(source: KernelSource, constants: Readonly<Record<string, number>>): Promise<CompiledKernel> {
    const { entryPoint, bindings } = source;
    const label = `${entryPoint} ${bindings.length} ${JSON.stringify(constants)}`;
    return once(this.#compiled, label, async () => {
      const kernel = await once(this.#kernels, `${entryPoint} ${bindings.length}`, () =>
        makeKernel(this.guard, source),
      );
      const { module, layout, bindGroupLayout } = kernel;
      const what = `the compilation of ${label}`;
      const { value, accepted } = this.guard.scoped(what, () =>
        this.guard.device.createComputePipelineAsync({ label, layout, compute: { module, entryPoint, constants } }),
      );
      const compiled = this.guard.settle(what, value);
      await accepted;
      return { pipeline: await compiled, bindGroupLayout };
    });
  }
}

/** Makes a value once; a failure is forgotten, so that the next call tries again. */
function once<T>(made: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  let value = made.get(key);
  if (value === undefined) {
    value = make();
    made.set(key, value);
    value.catch(() => made.delete(key));
  }
  return value;
}

async function makeKernel(guard: DeviceGuard, { entryPoint, code, bindings }: KernelSource): Promise<Kernel> {
  const { device } = guard;
  const what = `the compilation of ${entryPoint}`;
  const { value: module, accepted } = guard.scoped(what, () => device.createShaderModule({ label: entryPoint, code }));
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
