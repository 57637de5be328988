// The WGSL modules, put together from their parts: which variant of each part, and how many linears share a dispatch.

import { hasOffset, isNested, type WeightForm } from '../core/forms.js';
import blockCodes from './block_codes.wgsl?raw';
import blockTerms from './block_terms.wgsl?raw';
import dot4Packed from './dot4_packed.wgsl?raw';
import dot4Unpacked from './dot4_unpacked.wgsl?raw';
import int4PlainMM from './int4_plain_mm.wgsl?raw';
import linear from './int4_plain_mm_linear.wgsl?raw';
import quantizeActivations from './quantize_activations.wgsl?raw';
import readBandwidth from './read_bandwidth.wgsl?raw';
import reduceSubgroup from './reduce_subgroup.wgsl?raw';
import reduceWorkgroup from './reduce_workgroup.wgsl?raw';

/** How four products of bytes are summed: one instruction, or plain i32 arithmetic. The bits are the same. */
export type DotVariant = 'packed' | 'unpacked';
/** Where the lanes of a row add up: in registers, or in workgroup memory. The bits are the same. */
export type ReductionVariant = 'subgroup' | 'workgroup';

export interface KernelVariant {
  readonly reduction: ReductionVariant;
  readonly dot: DotVariant;
}

/** Workgroups of int4_plain_mm where a tile of rows must be a block of y, which is quantized; and elsewhere. */
export const TILES = { quantizing: { teams: 8, weightRows: 4 }, plain: { teams: 1, weightRows: 2 } } as const;
/** Lanes that share a row of weights and add up in workgroup memory; in registers it is a subgroup. */
export const LANES_PER_ROW = 32;
/** Linears that one dispatch takes at most. */
export const MAX_LINEARS = 3;
/** Storage buffers of int4_plain_mm: codes, run_terms, quantized, and for each linear qdata, groups, y. */
export const SHARED_STORAGE_BUFFERS = 3;
export const LINEAR_STORAGE_BUFFERS = 3;

export const QUANTIZE_SOURCE = `${blockCodes}\n${quantizeActivations}`;
export const READ_SOURCE = readBandwidth;

const REDUCTIONS = { subgroup: reduceSubgroup, workgroup: reduceWorkgroup };
const DOTS = { packed: dot4Packed, unpacked: dot4Unpacked };

/** int4_plain_mm for 1 to MAX_LINEARS linears a dispatch. */
export function matmulSource({ reduction, dot }: KernelVariant, linears: number): string {
  const walks = Array.from({ length: linears }, (_, i) =>
    linear.replaceAll('LINEAR', String(i + 1)).replaceAll('NEXT', i + 1 < linears ? String(i + 2) : 'END'),
  );
  return directivesFirst([blockCodes, REDUCTIONS[reduction], DOTS[dot], blockTerms, int4PlainMM, ...walks].join('\n'));
}

/** The overrides of int4_plain_mm that say which form its weights have. */
export function formConstants(form: WeightForm): Readonly<Record<string, number>> {
  return {
    HAS_OFFSET: Number(hasOffset(form)),
    NESTED: Number(isNested(form)),
    F16: Number(form.dtype === 'f16'),
  };
}

/** WGSL wants `enable` and `requires` before everything else; each part names what it needs. */
function directivesFirst(source: string): string {
  const directive = /^(?:enable|requires) .*;\n/gm;
  return (source.match(directive) ?? []).join('') + source.replace(directive, '');
}
