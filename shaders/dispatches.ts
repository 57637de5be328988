// One linear as dispatches: which pipelines, bind groups and workgroups make y = x · weightᵀ out of buffers.

import { BLOCK_SIZE } from '../core/limits.js';
import type { OutputType } from '../core/reference.js';
import { matmulParams, quantizeParams, type WebGPUWeight, type WeightSlice } from './device_weight.js';
import type { Pipelines } from './pipelines.js';
import type { Workspace, Workspaces } from './workspace.js';

/** Rows of x that one pass over the weights serves. */
export const MAX_ROWS = 4;
/** Of quantize_activations.wgsl. */
export const BLOCKS_PER_WORKGROUP = 64;
/** Of int4_plain_mm.wgsl. */
export const WEIGHT_ROWS_PER_WORKGROUP = 8;
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

/** What a linear needs and what takes time to make; recording with it is synchronous. */
export interface LinearKernels {
  readonly workspace: Workspace;
  readonly quantize: GPUComputePipeline;
  /** For the first M mod 4 rows. */
  readonly remainder: GPUComputePipeline | null;
  /** For the others, four at a time. */
  readonly full: GPUComputePipeline | null;
}

export async function linearKernels(
  pipelines: Pipelines,
  workspaces: Workspaces,
  { weight, m, outputType }: Pick<LinearOperands, 'weight' | 'm' | 'outputType'>,
): Promise<LinearKernels> {
  const { runSize, layout, k } = weight;
  const matmul = (rows: number) => pipelines.matmul({ rows, runSize, outputType, layout });
  const [workspace, quantize, remainder, full] = await Promise.all([
    workspaces.get(m * k),
    pipelines.quantize(runSize),
    m % MAX_ROWS > 0 ? matmul(m % MAX_ROWS) : null,
    m >= MAX_ROWS ? matmul(MAX_ROWS) : null,
  ]);
  return { workspace, quantize, remainder, full };
}

/** x into the workspace. */
export function quantizeDispatch(
  { guard, quantizeKernel }: Pipelines,
  { workspace, quantize }: LinearKernels,
  { x, weight, m }: LinearOperands,
): Dispatch {
  const bindGroup = bind(guard.device, quantizeKernel.bindGroupLayout, [
    x,
    workspace.codes,
    workspace.runTerms,
    workspace.rowExponent,
    quantizeParams(weight.slices[0]!),
  ]);
  const perRow = Math.ceil(weight.k / BLOCK_SIZE / BLOCKS_PER_WORKGROUP);
  return { pipeline: quantize, bindGroup, workgroups: [perRow, m, 1] };
}

/** The workspace times the weight, into y: the remainder of M / 4 first, then all whole passes at once. */
export function matmulDispatches(
  { guard, matmulKernel }: Pipelines,
  { workspace, remainder, full }: LinearKernels,
  { weight, y, m }: LinearOperands,
): Dispatch[] {
  const dispatch = (pipeline: GPUComputePipeline, slice: WeightSlice, mFirst: number, passes: number): Dispatch => {
    const bindGroup = bind(guard.device, matmulKernel.bindGroupLayout, [
      { buffer: slice.qdata },
      { buffer: slice.scaleZero },
      workspace.codes,
      workspace.runTerms,
      workspace.rowExponent,
      y,
      matmulParams(slice, mFirst),
    ]);
    const [gridX, gridY] = spread(Math.ceil(slice.n / WEIGHT_ROWS_PER_WORKGROUP));
    return { pipeline, bindGroup, workgroups: [gridX, gridY, passes] };
  };
  return weight.slices.flatMap((slice) => [
    ...(remainder ? [dispatch(remainder, slice, 0, 1)] : []),
    ...(full ? [dispatch(full, slice, m % MAX_ROWS, Math.floor(m / MAX_ROWS))] : []),
  ]);
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
  for (const { pipeline, bindGroup, workgroups } of dispatches) {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(...workgroups);
  }
}
