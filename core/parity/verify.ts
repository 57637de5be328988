// Runs a weight on backends and compares every output bit with the reference.

import { requireList } from '../argument_checks.js';
import type { Backend, BackendName, DeviceWeight } from '../backend.js';
import { type CoalescedInt4Tensor, requireCoalesced } from '../coalesced_int4_tensor.js';
import { int4PlainMM, type OutputType } from '../reference.js';
import { drawActivations } from './cases.js';
import { type BitDifference, firstDifference } from './compare.js';
import { outputDigest } from './digest.js';

/** The rows at which every weight of a file is verified: one pass over the weights each, and one with a chunk. */
export const VERIFY_ROWS: readonly number[] = [1, 2, 3, 4, 7];

/** One input of a weight: x bf16[m, k]. */
export interface ParityInput {
  /** Unique in a run; the key of the record. */
  readonly name: string;
  readonly m: number;
  readonly x: Uint16Array;
}

/** What one backend made of one input. */
export interface ParityOutcome {
  readonly backend: BackendName;
  /** The first difference in the f32 or else the bf16 output; null when every bit equals the reference. */
  readonly difference: (BitDifference & { readonly outputType: OutputType }) | null;
}

/** One input of one weight on every backend. */
export interface ParityResult {
  readonly name: string;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  /** Digest of the reference's output bits. */
  readonly sha256: string;
  readonly outcomes: readonly ParityOutcome[];
}

/**
 * The inputs on which a weight of a file is verified, drawn from its name.
 * @throws SamebitsError ARGUMENT_INVALID, M_UNSUPPORTED, K_UNSUPPORTED
 */
export function fileInputs(tensor: string, k: number, rows: readonly number[] = VERIFY_ROWS): ParityInput[] {
  return requireList(rows, 'rows').map((m) => {
    const name = `${String(tensor)} m${m}`;
    return { name, m, x: drawActivations({ name, m, k, activations: 'plain' }) };
  });
}

/**
 * Uploads `weight` once to each backend and runs every input there, f32 and bf16.
 * @throws SamebitsError what the backends refuse
 */
export async function* verifyWeight(
  weight: CoalescedInt4Tensor,
  inputs: readonly ParityInput[],
  backends: readonly Backend[],
): AsyncGenerator<ParityResult> {
  const { n, k, groupSize } = requireCoalesced(weight);
  requireList(inputs, 'inputs');
  requireList(backends, 'backends');
  const uploaded: { backend: Backend; handle: DeviceWeight }[] = [];
  try {
    for (const backend of backends) uploaded.push({ backend, handle: await backend.upload(weight) });
    for (const { name, m, x } of inputs) {
      const f32 = int4PlainMM(x, weight, 'f32');
      const bf16 = int4PlainMM(x, weight, 'bf16');
      const outcomes: ParityOutcome[] = [];
      for (const { backend, handle } of uploaded) {
        const differs32 = firstDifference(f32, await backend.linear(x, handle, { outputType: 'f32' }), n);
        const differs16 = firstDifference(bf16, await backend.linear(x, handle, { outputType: 'bf16' }), n);
        const difference = differs32
          ? { ...differs32, outputType: 'f32' as const }
          : differs16 && { ...differs16, outputType: 'bf16' as const };
        outcomes.push({ backend: backend.name, difference });
      }
      yield { name, m, n, k, groupSize, sha256: outputDigest(f32, bf16), outcomes };
    }
  } finally {
    for (const { handle } of uploaded) handle.dispose();
  }
}
