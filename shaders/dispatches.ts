// Linears as dispatches: which pipelines, bind groups and workgroups make y = x · weightᵀ out of buffers.

import { areSameForm } from '../core/forms.js';
import { BLOCK_SIZE } from '../core/limits.js';
import type { OutputType } from '../core/reference.js';
import { matmulParams, quantizeParams, type WebGPUWeight, type WeightSlice } from './device_weight.js';
import { TILES } from './kernel_sources.js';
import type { CompiledKernel, Pipelines } from './pipelines.js';
import type { QuantizedActivations, Workspaces } from './workspace.js';

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

/** y [M, N] of one linear, as a range of a buffer; its x comes as codes. */
export interface MatmulOperands {
  readonly weight: WebGPUWeight;
  readonly y: GPUBufferBinding;
  readonly m: number;
  readonly outputType: OutputType;
}

/** The same with x bf16[M, K], which is to be quantized. */
export interface LinearOperands extends MatmulOperands {
  readonly x: GPUBufferBinding;
}

/** Linears on the same x: all have one M, output type, run size and layout, and no two one y. */
export interface LinearGroup<Operands extends MatmulOperands = MatmulOperands> {
  readonly linears: readonly Operands[];
  /** Where the codes of x are, or come to be. */
  readonly activations: QuantizedActivations;
  /** Where the first linear's y goes as codes too, for a linear that reads it; N is then a multiple of 32. */
  readonly quantizedY: QuantizedActivations | null;
}

/** What a group needs and what takes time to make; recording with it is synchronous. */
export interface LinearKernels {
  readonly quantize: CompiledKernel;
  /** For the first M mod 4 rows; one for each dispatch that its linears take. */
  readonly remainder: readonly CompiledKernel[];
  /** For the others, four at a time. */
  readonly full: readonly CompiledKernel[];
  /** In place of codes of y that nobody reads. */
  readonly nobody: GPUBufferBinding;
}

/** One row slice of a linear's weight, and its operands. */
interface Share {
  readonly slice: WeightSlice;
  readonly operands: MatmulOperands;
}

export async function linearKernels(
  pipelines: Pipelines,
  workspaces: Workspaces,
  linears: readonly MatmulOperands[],
  quantizesY = false,
): Promise<LinearKernels> {
  const { weight, m, outputType } = linears[0]!;
  const { runSize, layout } = weight;
  const matmuls = (rows: number) =>
    Promise.all(
      dispatchShares(linears, pipelines.maxLinears).map((shares) => {
        const quantizes = quantizesY && holdsFirst(shares, linears);
        const { form } = shares[0]!.operands.weight;
        return pipelines.matmul({ linears: shares.length, rows, runSize, outputType, layout, form, quantizes });
      }),
    );
  const [nobody, quantize, remainder, full] = await Promise.all([
    workspaces.nobody(),
    pipelines.quantize(runSize),
    m % MAX_ROWS > 0 ? matmuls(m % MAX_ROWS) : [],
    m >= MAX_ROWS ? matmuls(MAX_ROWS) : [],
  ]);
  return { nobody, quantize, remainder, full };
}

/** x to its codes. */
export function quantizeDispatch(
  { guard }: Pipelines,
  { quantize }: LinearKernels,
  { linears, activations }: LinearGroup<LinearOperands>,
): Dispatch {
  const { x, weight, m } = linears[0]!;
  const bindGroup = bind(guard.device, quantize.bindGroupLayout, [
    x,
    activations.codes,
    activations.runTerms,
    quantizeParams(weight.slices[0]!),
  ]);
  const perRow = Math.ceil(weight.k / BLOCK_SIZE / BLOCKS_PER_WORKGROUP);
  return { pipeline: quantize.pipeline, bindGroup, workgroups: [perRow, m, 1] };
}

/** The codes of x times the weights, into their y: the remainder of M / 4 first, then all whole passes at once. */
export function matmulDispatches(
  { guard, maxLinears }: Pipelines,
  { nobody, remainder, full }: LinearKernels,
  { linears, activations, quantizedY }: LinearGroup,
): Dispatch[] {
  const { m } = linears[0]!;
  const dispatch = (kernel: CompiledKernel, shares: readonly Share[], mFirst: number, passes: number): Dispatch => {
    const isQuantized = quantizedY !== null && holdsFirst(shares, linears);
    const bindGroup = bind(guard.device, kernel.bindGroupLayout, [
      activations.codes,
      activations.runTerms,
      isQuantized ? quantizedY.whole : nobody,
      ...shares.flatMap(({ slice, operands }) => [
        { buffer: slice.qdata },
        { buffer: slice.groups },
        operands.y,
        matmulParams(slice, mFirst),
      ]),
    ]);
    const [gridX, gridY] = spread(tilesOf(shares, isQuantized));
    return { pipeline: kernel.pipeline, bindGroup, workgroups: [gridX, gridY, passes] };
  };
  return dispatchShares(linears, maxLinears).flatMap((shares, i) => [
    ...(remainder[i] ? [dispatch(remainder[i], shares, 0, 1)] : []),
    ...(full[i] ? [dispatch(full[i], shares, m % MAX_ROWS, Math.floor(m / MAX_ROWS))] : []),
  ]);
}

/** Whether int4_plain_mm can quantize the y of this weight: every tile of rows a block. */
export function isTiled({ n, slices }: WebGPUWeight): boolean {
  return n % BLOCK_SIZE === 0 && slices.every(({ nFirst }) => nFirst % BLOCK_SIZE === 0);
}

/** The first linear of a group is the one whose y may be quantized; it comes first in every dispatch that it is in. */
function holdsFirst(shares: readonly Share[], linears: readonly MatmulOperands[]): boolean {
  return shares[0]!.operands === linears[0];
}

/** Workgroups of a dispatch for each pass over its rows of x. */
function tilesOf(shares: readonly Share[], quantizes: boolean): number {
  const { teams, weightRows } = quantizes ? TILES.quantizing : TILES.plain;
  return shares.reduce((sum, { slice }) => sum + Math.ceil(slice.n / (teams * weightRows)), 0);
}

/** Which slices go together: as many of one form as a dispatch takes, but never two of one weight, which write to the same y. */
function dispatchShares(linears: readonly MatmulOperands[], maxLinears: number): Share[][] {
  const dispatches: Share[][] = [];
  const slices = Math.max(...linears.map(({ weight }) => weight.slices.length));
  for (let i = 0; i < slices; i++) {
    const round = linears.flatMap((operands) => {
      const slice = operands.weight.slices[i];
      return slice ? [{ slice, operands }] : [];
    });
    for (const alike of byForm(round)) {
      for (let first = 0; first < alike.length; first += maxLinears) {
        dispatches.push(alike.slice(first, first + maxLinears));
      }
    }
  }
  return dispatches;
}

function byForm(shares: readonly Share[]): Share[][] {
  const groups: Share[][] = [];
  for (const share of shares) {
    const { form } = share.operands.weight;
    const group = groups.find(([first]) => first && areSameForm(first.operands.weight.form, form));
    if (group) group.push(share);
    else groups.push([share]);
  }
  return groups;
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
