// f16 as 16-bit patterns: every one of them is an f32 exactly, and subnormals are values like the others.

const SUBNORMAL_STEP = 2 ** -24;

/** The exact value of an f16 bit pattern. */
export function numberFromF16(bits: number): number {
  const magnitude = magnitudeFromF16(bits & 0x7fff);
  return bits & 0x8000 ? -magnitude : magnitude;
}

function magnitudeFromF16(magnitude: number): number {
  const exponent = magnitude >> 10;
  const fraction = magnitude & 0x3ff;
  if (exponent === 0) return fraction * SUBNORMAL_STEP;
  if (exponent === 31) return fraction === 0 ? Number.POSITIVE_INFINITY : Number.NaN;
  // 2^(exponent - 1) fits an i32, and the significand with its step is exact. `**` would take many times as long.
  return (0x400 + fraction) * (SUBNORMAL_STEP * (1 << (exponent - 1)));
}

/** Widens f16 bits to f32 values. NaN keeps its sign and payload. */
export function f32FromF16Array(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(bits.length);
  const outBits = new Uint32Array(out.buffer);
  for (let i = 0; i < bits.length; i++) {
    const sign = (bits[i]! & 0x8000) << 16;
    const magnitude = bits[i]! & 0x7fff;
    if (magnitude < 0x400) {
      out[i] = magnitude * SUBNORMAL_STEP;
      outBits[i]! |= sign;
    } else {
      // The exponent's bias grows from 15 to 127; that of Inf and NaN from 31 to 255.
      const rebias = magnitude < 0x7c00 ? 112 : 224;
      outBits[i] = sign | ((magnitude << 13) + (rebias << 23));
    }
  }
  return out;
}
