// The kernels of the decoder: their sources, put together from parts, and the order of their bindings.

import argMax from './arg_max.wgsl?raw';
import attentionChunks from './attention_chunks.wgsl?raw';
import blockCodes from './block_codes.wgsl?raw';
import blockLanes from './block_lanes.wgsl?raw';
import combineChunks from './combine_chunks.wgsl?raw';
import elementary from './elementary.wgsl?raw';
import embedTokens from './embed_tokens.wgsl?raw';
import gatedGelu from './gated_gelu.wgsl?raw';
import type { BindingType, KernelSource } from './pipelines.js';
import reduceTree from './reduce_tree.wgsl?raw';
import rmsNorm from './rms_norm.wgsl?raw';
import rotateHeads from './rotate_heads.wgsl?raw';
import softCap from './soft_cap.wgsl?raw';

const READ: BindingType = 'read-only-storage';
const WRITE: BindingType = 'storage';
const UNIFORM: BindingType = 'uniform';

function kernel(entryPoint: string, parts: readonly string[], bindings: readonly BindingType[]): KernelSource {
  return { entryPoint, code: parts.join('\n'), bindings };
}

const CODES = [blockCodes, blockLanes];
const TREE = [elementary, reduceTree];

export const DECODER_KERNELS = {
  embedTokens: kernel('embed_tokens', [embedTokens], [READ, READ, WRITE, UNIFORM, UNIFORM]),
  rmsNorm: kernel('rms_norm', [...TREE, ...CODES, rmsNorm], [READ, WRITE, READ, READ, WRITE, WRITE, WRITE, UNIFORM]),
  rotateHeads: kernel(
    'rotate_heads',
    [...TREE, rotateHeads],
    [READ, READ, READ, READ, READ, WRITE, WRITE, WRITE, UNIFORM, UNIFORM],
  ),
  attentionChunks: kernel(
    'attention_chunks',
    [...TREE, attentionChunks],
    [READ, READ, READ, WRITE, WRITE, UNIFORM, UNIFORM],
  ),
  combineChunks: kernel(
    'combine_chunks',
    [elementary, ...CODES, combineChunks],
    [READ, READ, WRITE, WRITE, UNIFORM, UNIFORM],
  ),
  gatedGelu: kernel('gated_gelu', [elementary, ...CODES, gatedGelu], [READ, READ, WRITE, WRITE, UNIFORM]),
  softCap: kernel('soft_cap', [elementary, softCap], [WRITE, UNIFORM]),
  argMax: kernel('arg_max', [argMax], [READ, WRITE, UNIFORM]),
} as const;

/** Values that a workgroup of gated_gelu takes, and logits that one of soft_cap takes at first. */
export const GELU_VALUES_PER_WORKGROUP = 512;
export const CAP_VALUES_PER_WORKGROUP = 256;
/** Pairs of values of a token that a workgroup of embed_tokens takes. */
export const EMBED_PAIRS_PER_WORKGROUP = 256;
/** Values of a lane that makes codes: a workgroup of combine_chunks has a lane for each of them. */
export const CODE_LANE_SIZE = 8;
/** Positions of a cache lie in tiles of so many. */
export const CACHE_TILE = 32;
