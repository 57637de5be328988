// The tensor types of GGUF: how many elements a block holds and how many bytes it takes.

import type { Dtype } from './dtypes.js';

interface GgufType {
  readonly name: Dtype | BlockType;
  readonly blockElements: number;
  readonly blockBytes: number;
}

/** Types whose elements share scales, as ggml spells them. */
const BLOCK_TYPES = {
  Q4_0: [2, 32, 18],
  Q4_1: [3, 32, 20],
  Q5_0: [6, 32, 22],
  Q5_1: [7, 32, 24],
  Q8_0: [8, 32, 34],
  Q8_1: [9, 32, 36],
  Q2_K: [10, 256, 84],
  Q3_K: [11, 256, 110],
  Q4_K: [12, 256, 144],
  Q5_K: [13, 256, 176],
  Q6_K: [14, 256, 210],
  Q8_K: [15, 256, 292],
  IQ2_XXS: [16, 256, 66],
  IQ2_XS: [17, 256, 74],
  IQ3_XXS: [18, 256, 98],
  IQ1_S: [19, 256, 50],
  IQ4_NL: [20, 32, 18],
  IQ3_S: [21, 256, 110],
  IQ2_S: [22, 256, 82],
  IQ4_XS: [23, 256, 136],
  IQ1_M: [29, 256, 56],
  TQ1_0: [34, 256, 54],
  TQ2_0: [35, 256, 66],
  MXFP4: [39, 32, 17],
  NVFP4: [40, 64, 36],
} as const;

/** A GGUF type that packs several elements into a block. */
export type BlockType = keyof typeof BLOCK_TYPES;

const PLAIN_TYPES: readonly (readonly [id: number, name: Dtype, bytes: number])[] = [
  [0, 'F32', 4],
  [1, 'F16', 2],
  [24, 'I8', 1],
  [25, 'I16', 2],
  [26, 'I32', 4],
  [27, 'I64', 8],
  [28, 'F64', 8],
  [30, 'BF16', 2],
];

const PLAIN: readonly (readonly [number, GgufType])[] = PLAIN_TYPES.map(([id, name, blockBytes]) => [
  id,
  { name, blockElements: 1, blockBytes },
]);
const BLOCKS: readonly (readonly [number, GgufType])[] = Object.entries(BLOCK_TYPES).map(
  ([name, [id, blockElements, blockBytes]]) => [id, { name: name as BlockType, blockElements, blockBytes }],
);

/** By id. Ids that ggml has withdrawn (Q4_0_4_4 and other repacks) are not in it. */
export const GGUF_TYPES: ReadonlyMap<number, GgufType> = new Map([...PLAIN, ...BLOCKS]);

export function isBlockType(name: string): name is BlockType {
  return Object.hasOwn(BLOCK_TYPES, name);
}
