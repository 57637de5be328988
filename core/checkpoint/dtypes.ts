// The element types of safetensors and their sizes.

const BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** An element type, as safetensors spells it. */
export type Dtype = keyof typeof BITS;

export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(BITS, name);
}

export const DTYPE_NAMES = Object.keys(BITS).join(', ');

/**
 * Bytes of a tensor, or undefined when they are not a whole number of bytes or do not fit 2^53 - 1.
 * @param shape non-negative safe integers
 */
export function tensorSizeBytes(dtype: Dtype, shape: readonly number[]): number | undefined {
  let bits: number = BITS[dtype];
  for (const dimension of shape) {
    bits *= dimension;
    if (!Number.isSafeInteger(bits)) return undefined;
  }
  return bits % 8 === 0 ? bits / 8 : undefined;
}
