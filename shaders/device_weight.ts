// A packed weight in WebGPU memory: row slices that fit the device's bindings, and the life that they share.

import type { DeviceWeight } from '../core/backend.js';
import type { WeightForm } from '../core/forms.js';
import type { WeightShape } from '../core/limits.js';
import { runSize } from '../core/reference.js';
import type { ScaleLayout } from '../core/validate.js';

/** Uniform offsets of this alignment suit every device. */
export const SLOT_BYTES = 256;
/** First rows of x of a dispatch: 0, or what the remainder of M / 4 left over. */
export const M_FIRST_VALUES = 4;
export const PARAM_WORDS = 10;

/** Consecutive rows of a weight, in buffers of their own. */
export interface WeightSlice {
  readonly nFirst: number;
  readonly n: number;
  /** u8[n, K/2] */
  readonly qdata: GPUBuffer;
  /** What the form keeps of each group, as the header of int4_plain_mm.wgsl lays it out. */
  readonly groups: GPUBuffer;
  readonly params: GPUBuffer;
}

/** Belongs to the backend `owner`; destroyed when it is disposed and no call uses it. */
export class WebGPUWeight implements DeviceWeight {
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly nGroups: number;
  readonly layout: ScaleLayout;
  readonly form: WeightForm;
  readonly sizeBytes: number;
  #uses = 0;
  #disposed = false;

  constructor(
    readonly owner: object,
    shape: WeightShape & { readonly layout: ScaleLayout; readonly form: WeightForm },
    readonly slices: readonly WeightSlice[],
    readonly onDispose: (weight: WebGPUWeight) => void,
  ) {
    this.n = shape.n;
    this.k = shape.k;
    this.groupSize = shape.groupSize;
    this.nGroups = shape.nGroups;
    this.layout = shape.layout;
    this.form = shape.form;
    this.sizeBytes = slices.reduce((sum, s) => sum + s.qdata.size + s.groups.size + s.params.size, 0);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  get runSize(): number {
    return runSize(this.groupSize);
  }

  /** Keeps the memory until the matching release, even when it is disposed of in between. */
  retain(): void {
    this.#uses++;
  }

  release(): void {
    this.#uses--;
    this.#destroyWhenUnused();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.onDispose(this);
    this.#destroyWhenUnused();
  }

  #destroyWhenUnused(): void {
    if (this.#disposed && this.#uses === 0) destroySlices(this.slices);
  }
}

/** The range of a slice's parameters for a dispatch whose first row of x is mFirst, 0..3. */
export function matmulParams(slice: WeightSlice, mFirst: number): GPUBufferBinding {
  return { buffer: slice.params, offset: (1 + mFirst) * SLOT_BYTES, size: PARAM_WORDS * 4 };
}

/** The parameters of quantize_activations for this weight's K; every slice has them. */
export function quantizeParams(slice: WeightSlice): GPUBufferBinding {
  return { buffer: slice.params, offset: 0, size: 4 };
}

export function destroySlices(slices: readonly WeightSlice[]): void {
  for (const { qdata, groups, params } of slices) {
    for (const buffer of [qdata, groups, params]) buffer.destroy();
  }
}
