// The values of F16, BF16 and F32 bytes in f32, exactly.

import { f32FromF16Array } from '../f16.js';
import { f32View, u16View } from './views.js';

/** @param dtype F16, BF16 or F32 */
export function floatValues(dtype: string, bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  if (dtype === 'F32') return f32View(bytes);
  const bits = u16View(bytes);
  return dtype === 'F16' ? f32FromF16Array(bits) : f32FromBf16Array(bits);
}

function f32FromBf16Array(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(bits.length);
  const outBits = new Uint32Array(out.buffer);
  for (let i = 0; i < bits.length; i++) outBits[i] = bits[i]! << 16;
  return out;
}
