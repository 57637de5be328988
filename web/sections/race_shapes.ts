// The linears of known models, for the race. Those that share an input are packed together.

import type { RaceShape } from '../engine/messages.js';

type Row = readonly [label: string, n: number, k: number];

export interface Preset {
  readonly name: string;
  readonly shapes: readonly RaceShape[];
}

const GROUP_SIZE = 32;

const MODELS: readonly (readonly [name: string, rows: readonly Row[]])[] = [
  [
    'Gemma 4 31B',
    [
      ['gate + up', 43_008, 5376],
      ['down', 5376, 21_504],
      ['q + k + v', 16_384, 5376],
      ['o', 5376, 8192],
      ['head', 262_144, 5376],
    ],
  ],
  [
    'Llama 3.1 8B',
    [
      ['gate + up', 28_672, 4096],
      ['down', 4096, 14_336],
      ['q + k + v', 6144, 4096],
      ['o', 4096, 4096],
      ['head', 128_256, 4096],
    ],
  ],
  [
    'Qwen 3 0.6B',
    [
      ['gate + up', 6144, 1024],
      ['down', 1024, 3072],
      ['q + k + v', 4096, 1024],
      ['o', 1024, 2048],
      ['head', 151_936, 1024],
    ],
  ],
];

export const PRESETS: readonly Preset[] = MODELS.map(([name, rows]) => ({
  name,
  shapes: rows.map(([label, n, k]) => ({ label, n, k, groupSize: GROUP_SIZE })),
}));
