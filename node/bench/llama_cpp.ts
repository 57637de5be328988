// What llama.cpp takes for the same matrices on one GPU: published figures, which this benchmark compares with and never measures.

/** The device that they hold for, as CUDA names it. */
const DEVICE = 'NVIDIA H200';

/** Weights of 5 bits, scale and offset; and of 4.5 bits, 6-bit codes of steps. */
export const LLAMA_CPP_FORMATS = ['Q4_1', 'Q4_K'] as const;

/** µs a matvec of its mmvq kernels, M = 1, programmatic dependent launch on, weights from memory; by `NxK`, as LLAMA_CPP_FORMATS. */
const MEDIANS_US: Readonly<Record<string, readonly [q41: number, q4k: number]>> = {
  '43008x5376': [50.3, 65.2],
  '5376x21504': [21.2, 28.6],
  '16384x5376': [20.5, 26.3],
  '5376x8192': [9.6, 13.0],
  '262144x5376': [293.7, 384.8],
};

/** The figures of a shape at M = 1, in µs, as LLAMA_CPP_FORMATS; none for another device or shape. */
export function llamaCppMediansUs(device: string, n: number, k: number): readonly number[] {
  return device === DEVICE ? (MEDIANS_US[`${n}x${k}`] ?? []) : [];
}
