// Calls of the native border, and what they throw as TypeScript shows it.

import type { TestContext } from 'vitest';
import { SamebitsError } from '../../core/index.js';
import { type LoadedAddon, loadCudaAddon, type NativeAddon, samebitsErrorFrom } from '../../node/cuda_addon.js';
import { skipWithout } from '../backend_report.js';
import { buildAddonOnHost } from './build_on_host.js';

/** The addon whose kernels and runtime are the host's, or a skip where there is no compiler. */
export async function loadAddonOnHost(context: TestContext): Promise<NativeAddon> {
  const build = await buildAddonOnHost();
  if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
  process.env['SAMEBITS_CUDA_ADDON'] = build.path;
  const loaded: LoadedAddon = loadCudaAddon();
  delete process.env['SAMEBITS_CUDA_ADDON'];
  return loaded.native;
}

/** What a call throws, as TypeScript shows it. */
export function refusalOf(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return samebitsErrorFrom(error);
  }
  return 'accepted';
}

/** The code of a refusal, or whatever it is instead. */
export const codeOfRefusal = (refusal: unknown) => (refusal instanceof SamebitsError ? refusal.code : refusal);
