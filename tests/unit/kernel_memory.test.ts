// The memory of the conversion's kernels: regions that do not touch, refusals where WebAssembly or memory is missing.

import { afterEach, describe, expect, test, vi } from 'vitest';
import { KernelMemory } from '../../core/checkpoint/kernel_memory.js';
import { discardingSink, openModelCheckpoint, planConversion, runConversion } from '../../core/index.js';
import { importSources } from './import_sources.js';

afterEach(() => {
  vi.unstubAllGlobals();
});

async function convertOne(): Promise<unknown> {
  const [folder] = importSources(8, 64, 32)['torchao, unsigned']!;
  return runConversion(await planConversion(await openModelCheckpoint(folder)), discardingSink);
}

describe('regions', () => {
  test('lie apart, start at lines of the cache, and are given back', async () => {
    const memory = await KernelMemory.create();
    const sizes = [1, 100, 65536, 0, 3 * 65536];
    const regions = sizes.map((sizeBytes) => memory.take(sizeBytes));
    let end = 0;
    for (const [i, region] of regions.entries()) {
      expect(region.address % 64).toBe(0);
      expect(region.address).toBeGreaterThanOrEqual(end + 64);
      end = region.address + sizes[i]!;
      region.bytes().fill(i + 1);
    }
    regions.forEach((region, i) => {
      expect(region.bytes()).toEqual(new Uint8Array(sizes[i]!).fill(i + 1));
    });
    memory.clear();
    expect(memory.take(1).address).toBe(regions[0]!.address);
  });

  test('that no engine can give are refused', async () => {
    const memory = await KernelMemory.create();
    expect(() => memory.take(2 ** 33)).toThrow(expect.objectContaining({ code: 'HOST_OUT_OF_MEMORY' }));
    expect(memory.take(64).bytes()).toHaveLength(64);
  });

  test('without memory for the first page, it is memory that is missing, not WebAssembly', async () => {
    class Memory {
      constructor() {
        throw new RangeError('WebAssembly.Memory(): could not allocate memory');
      }
    }
    vi.stubGlobal('WebAssembly', { compile: WebAssembly.compile, Memory });
    await expect(convertOne()).rejects.toMatchObject({ code: 'HOST_OUT_OF_MEMORY' });
    vi.unstubAllGlobals();
    await expect(convertOne()).resolves.toMatchObject({ packedCount: 1 });
  });
});

describe('without WebAssembly', () => {
  test('conversion is refused, and works again once it is allowed', async () => {
    vi.stubGlobal('WebAssembly', undefined);
    await expect(convertOne()).rejects.toMatchObject({ code: 'WEBASSEMBLY_UNAVAILABLE' });
    vi.unstubAllGlobals();
    await expect(convertOne()).resolves.toMatchObject({ packedCount: 1 });
  });
});
