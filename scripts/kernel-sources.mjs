// Hashes of the kernel sources: what a recorded run ran, and what the suite compares it with.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const endings = { cuda: ['.cu', '.cuh', '.h'], shaders: ['.wgsl'] };

/**
 * SHA-256, in hex, of the names and contents of the kernel files of one side, in the order of their names.
 * @param {'cuda' | 'shaders'} side
 */
export function kernelSourcesSha256(side) {
  const hash = createHash('sha256');
  const folder = join(root, side);
  for (const name of readdirSync(folder).sort()) {
    if (!endings[side].some((ending) => name.endsWith(ending))) continue;
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(folder, name)))
      .update('\0');
  }
  return hash.digest('hex');
}
