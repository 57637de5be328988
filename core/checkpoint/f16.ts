// f16 as 16-bit patterns: every one of them is an f32 exactly.

const SUBNORMAL_STEP = 2 ** -24;

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
