// Linears as dispatches: which pipelines, bind groups and workgroups make y = x · weightᵀ out of buffers.

import { BLOCK_SIZE } from '../core/limits.js';
import type { OutputType } from '../core/reference.js';
import { matmulParams, quantizeParams, type WebGPUWeight, type WeightSlice } from './device_weight.js';
import { WEIGHT_ROWS_PER_WORKGROUP } from './kernel_sources.js';
import type { CompiledKernel, Pipelines } from './pipelines.js';
import type { Workspace, Workspaces } from './workspace.js';

/** Rows of x that one pass over the weights serves. */
export const MAX_ROWS = 4;
/** Of quantize_activations.wgsl. */
export const BLOCKS_PER_WORKGROUP = 64;
/** What every device takes in one dimension. */
export const MAX_WORKGROUPS = 65_535;

export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly workgroups: readonly [number, number, number];
}

/** x bf16[M, K] and y [M, N] of one linear, as ranges of buffers. */
export interface LinearOperands {
  readonly x: GPUBufferBinding;
  readonly weight: WebGPUWeight;
  readonly y: GPUBufferBinding;
  readonly m: number;
  readonly outputType: OutputType;
}

/** What a linear, or some that share their x, needs and what takes time to make; recording with it is synchronous. */
export interface LinearKernels {
  readonly workspace: Workspace;
  readonly quantize: CompiledKernel;
  /** For the first M mod 4 rows; one for each dispatch that its linears take. */
  readonly remainder: readonly CompiledKernel[];
  /** For the others, four at a time. */
  readonly full: readonly CompiledKernel[];
}

/** One row slice of a linear's weight, and its operands. */
interface Share {
  readonly slice: WeightSlice;
  readonly operands: LinearOperands;
}

/**
 * What linears on the same quantized x run on; all have one M, output type, run size and layout, and no two one y.
 */
export async function linearKernels(
  pipelines: Pipelines,
  workspaces: Workspaces,
  linears: readonly LinearOperands[],
): Promise<LinearKernels> {
  const { weight, m, outputType } = linears[0]!;
  const { runSize, layout, k } = weight;
  const shares = dispatchShares(linears, pipelines.maxLinears);
  const matmuls = (rows: number) =>
    Promise.all(shares.map(({ length }) => pipelines.matmul({ linears: length, rows, runSize, outputType, layout })));
  const [workspace, quantize, remainder, full] = await Promise.all([
    workspaces.get(m * k),
    pipelines.quantize(runSize),
    m % MAX_ROWS > 0 ? matmuls(m % MAX_ROWS) : [],
    m >= MAX_ROWS ? matmuls(MAX_ROWS) : [],
  ]);
  return { workspace, quantize, remainder, full };
}

/** x into the workspace. */
export function quantizeDispatch(
  { guard }: Pipelines,
  { workspace, quantize }: LinearKernels,
  { x, weight, m }: LinearOperands,
): Dispatch {
  const bindGroup = bind(guard.device, quantize.bindGroupLayout, [
    x,
    workspace.codes,
    workspace.runTerms,
    workspace.rowExponent,
    quantizeParams(weight.slices[0]!),
  ]);
  const perRow = Math.ceil(weight.k / BLOCK_SIZE / BLOCKS_PER_WORKGROUP);
  return { pipeline: quantize.pipeline, bindGroup, workgroups: [perRow, m, 1] };
}

/** The workspace times the weights, into their y: the remainder of M / 4 first, then all whole passes at once. */
export function matmulDispatches(
  { guard, variant, maxLinears }: Pipelines,
  { workspace, remainder, full }: LinearKernels,
  linears: readonly LinearOperands[],
): Dispatch[] {
  const { m } = linears[0]!;
  const rowsPerWorkgroup = WEIGHT_ROWS_PER_WORKGROUP[variant.reduction];
  const dispatch = (kernel: CompiledKernel, shares: readonly Share[], mFirst: number, passes: number): Dispatch => {
    const bindGroup = bind(guard.device, kernel.bindGroupLayout, [
      workspace.codes,
      workspace.runTerms,
      workspace.rowExponent,
      ...shares.flatMap(({ slice, operands }) => [
        { buffer: slice.qdata },
        { buffer: slice.scaleZero },
        operands.y,
        matmulParams(slice, mFirst),
      ]),
    ]);
    const tiles = shares.reduce((sum, { slice }) => sum + Math.ceil(slice.n / rowsPerWorkgroup), 0);
    const [gridX, gridY] = spread(tiles);
    return { pipeline: kernel.pipeline, bindGroup, workgroups: [gridX, gridY, passes] };
  };
  return dispatchShares(linears, maxLinears).flatMap((shares, i) => [
    ...(remainder[i] ? [dispatch(remainder[i], shares, 0, 1)] : []),
    ...(full[i] ? [dispatch(full[i], shares, m % MAX_ROWS, Math.floor(m / MAX_ROWS))] : []),
  ]);
}

/** Which slices go together: as many as a dispatch takes, but never two of one weight, which write to the same y. */
function dispatchShares(linears: readonly LinearOperands[], maxLinears: number): Share[][] {
  const dispatches: Share[][] = [];
  const slices = Math.max(...linears.map(({ weight }) => weight.slices.length));
  for (let i = 0; i < slices; i++) {
    const round = linears.flatMap((operands) => {
      const slice = operands.weight.slices[i];
      return slice ? [{ slice, operands }] : [];
    });
    for (let first = 0; first < round.length; first += maxLinears) {
      dispatches.push(round.slice(first, first + maxLinears));
    }
  }
  return dispatches;
}

/** A count of workgroups over two dimensions, with fewer than one row of them too many. */
export function spread(workgroups: number): [number, number] {
  const gridY = Math.ceil(workgroups / MAX_WORKGROUPS);
  return [Math.ceil(workgroups / gridY), gridY];
}

export function bind(device: GPUDevice, layout: GPUBindGroupLayout, bindings: readonly GPUBufferBinding[]) {
  return device.createBindGroup({ layout, entries: bindings.map((resource, binding) => ({ binding, resource })) });
}

export function recordDispatches(pass: GPUComputePassEncoder, dispatches: readonly Dispatch[]): void {
  let current: GPUComputePipeline | null = null;
  for (const { pipeline, bindGroup, workgroups } of dispatches) {
    if (pipeline !== current) pass.setPipeline(pipeline);
    current = pipeline;
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(...workgroups);
  }
}
