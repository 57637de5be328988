// Multiplies by one packed weight: on the device and on the reference, bits against bits, and against the exact product.

import {
  type CoalescedInt4Tensor,
  dequantizeAndMultiply,
  fileInputs,
  int4PlainMM,
  numberFromBf16,
  verifyWeight,
} from '../../../core/index.js';
import type { JobContext } from '../job.js';
import type { PackResult, Product } from '../messages.js';
import { relativeError } from '../relative_error.js';

/** Rows of activations; the reference takes a second per hundred million products, so a large weight gets one. */
const ROWS = [1, 4] as const;
const MAX_WEIGHTS_FOR_ALL_ROWS = 32e6;

export async function multiply(
  name: string,
  weight: CoalescedInt4Tensor,
  { device, step }: JobContext<'pack'>,
): Promise<Pick<PackResult, 'device' | 'products'>> {
  const open = await device.get();
  const rows = weight.n * weight.k > MAX_WEIGHTS_FOR_ALL_ROWS ? ROWS.slice(0, 1) : ROWS;
  const inputs = fileInputs(name, weight.k, rows);
  const products: Product[] = [];
  for await (const { m, sha256, outcomes } of verifyWeight(weight, inputs, open ? [open.backend] : [])) {
    await step();
    const { x } = inputs[products.length]!;
    const exact = dequantizeAndMultiply(Float32Array.from(x, numberFromBf16), weight);
    const activationError = relativeError(int4PlainMM(x, weight), exact);
    products.push({ m, sha256, difference: outcomes[0]?.difference ?? null, activationError });
    await step();
  }
  return { products, ...(open && { device: open.backend.device.name }) };
}
