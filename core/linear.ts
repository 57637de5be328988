// linear(x, w) on the CPU, dispatched by the type of w: never by its shape.

import { requireBf16 } from './argument_checks.js';
import { bf16FromF32Array, numberFromBf16 } from './bf16.js';
import { type CoalescedInt4Tensor, requireCoalesced } from './coalesced_int4_tensor.js';
import { dequantizeAndMultiply } from './dequantize.js';
import { Int4Tensor } from './int4_tensor.js';
import { int4PlainMM } from './reference.js';

/** Activations [M, K], row-major: bf16 bit patterns, or f32 values. */
export type Activations = Uint16Array | Float32Array;

/**
 * y = x · wᵀ as f32[M, N]. A CoalescedInt4Tensor goes to int4PlainMM (x rounded to bf16); an Int4Tensor is dequantized
 * and multiplied plainly, and never reaches a coalesced kernel, whatever its shape.
 * @throws SamebitsError DTYPE_MISMATCH, INPUT_LENGTH_MISMATCH, M_UNSUPPORTED; LAYOUT_WRONG_TYPE for any other weight
 */
export function linear(x: Activations, w: Int4Tensor | CoalescedInt4Tensor): Float32Array {
  if (Int4Tensor.is(w)) return dequantizeAndMultiply(f32Activations(x), w);
  return int4PlainMM(bf16Activations(x), requireCoalesced(w));
}

/**
 * x as bf16 bits: f32 is rounded, ties to even; bf16 is the same array.
 * @throws SamebitsError DTYPE_MISMATCH for anything else, which could only be misread
 */
export function bf16Activations(x: Activations): Uint16Array {
  return x instanceof Float32Array ? bf16FromF32Array(x) : requireBf16(x);
}

function f32Activations(x: Activations): Float32Array {
  return x instanceof Float32Array ? x : Float32Array.from(requireBf16(x), numberFromBf16);
}
