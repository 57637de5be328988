// SHA-256 of output bits: what a recorded run keeps of each result.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { requireBf16, requireF32 } from '../argument_checks.js';

/**
 * Hex SHA-256 of the f32 bits of an output followed by its bf16 bits, little-endian.
 * @throws SamebitsError DTYPE_MISMATCH
 */
export function outputDigest(f32: Float32Array, bf16: Uint16Array): string {
  requireF32(f32, 'the f32 output');
  requireBf16(bf16);
  const hash = sha256.create();
  hash.update(new Uint8Array(f32.buffer, f32.byteOffset, f32.byteLength));
  hash.update(new Uint8Array(bf16.buffer, bf16.byteOffset, bf16.byteLength));
  return bytesToHex(hash.digest());
}
