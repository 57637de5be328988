// Who frees device memory, and when; and what CUDA's errors become. On the host, where every byte can be counted.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CoalescedInt4Tensor, drawActivations, drawWeight, int4PlainMM } from '../../core/index.js';
import { skipWithout } from '../backend_report.js';
import { buildAddonOnHost } from '../native/build_on_host.js';
import { HOST_MEMORY_BYTES, openOnHost } from '../native/open_on_host.js';

const of = { name: 'memory', n: 1024, k: 1024, groupSize: 16, m: 1, weights: 'plain', activations: 'plain' } as const;
const tensor = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of));
const x = drawActivations(of);

describe('memory', () => {
  test('an upload that runs out of memory frees what it took', async (context) => {
    const backend = await openOnHost(context);
    const qdataBytes = tensor.qdata.byteLength;
    const tight = await backend.createBuffer(HOST_MEMORY_BYTES - qdataBytes - 1000);
    await expect(backend.upload(tensor)).rejects.toMatchObject({ code: 'DEVICE_OUT_OF_MEMORY' });
    const fits = await backend.createBuffer(qdataBytes);
    fits.dispose();
    tight.dispose();
    const weight = await backend.upload(tensor);
    expect(await backend.linear(x, weight)).toEqual(int4PlainMM(x, tensor));
    await backend.dispose();
  });

  test('scratch that no call uses makes room for what does not fit', async (context) => {
    const backend = await openOnHost(context);
    const weight = await backend.upload(tensor);
    await backend.linear(new Uint16Array(16 * of.k), weight);
    const most = await backend.createBuffer(HOST_MEMORY_BYTES - weight.sizeBytes);
    await expect(backend.linear(x, weight)).rejects.toMatchObject({ code: 'DEVICE_OUT_OF_MEMORY' });
    most.dispose();
    await backend.createBuffer(HOST_MEMORY_BYTES / 2); // takes the place of what was disposed just now
    expect(await backend.linear(x, weight)).toEqual(int4PlainMM(x, tensor));
    await backend.dispose();
  });

  test('dispose frees everything, in flight or not, once', async (context) => {
    const backend = await openOnHost(context);
    const weight = await backend.upload(tensor);
    const buffers = [await backend.createBuffer(of.k * 2), await backend.createBuffer(of.n * 4)] as const;
    const plan = await backend.plan([{ m: 1, x: buffers[0], weight, y: buffers[1], outputType: 'f32' }]);
    const inFlight = [backend.linear(x, weight), plan.run(), buffers[1].read()];
    await backend.dispose();
    await Promise.all(inFlight);
    for (const late of [backend.linear(x, weight), backend.upload(tensor), backend.createBuffer(1), plan.run()]) {
      await expect(late).rejects.toMatchObject({ code: 'DISPOSED' });
    }
    await backend.dispose();

    const again = await openOnHost(context);
    expect(await again.createBuffer(HOST_MEMORY_BYTES)).toMatchObject({ sizeBytes: HOST_MEMORY_BYTES });
    await again.dispose();
  });
});

describe('errors of CUDA', () => {
  test.for([
    [700, 'DEVICE_LOST', 'cudaErrorIllegalAddress'],
    [1, 'DEVICE_FAILURE', 'cudaErrorInvalidValue'],
    [2, 'DEVICE_OUT_OF_MEMORY', 'cudaErrorMemoryAllocation'],
  ] as const)('%i becomes %s', async ([number, code, cudaError], context) => {
    const backend = await openOnHost(context);
    const buffer = await backend.createBuffer(16);
    process.env['CUDA_ON_HOST_ERROR'] = String(number);
    const read = buffer.read();
    await expect(read).rejects.toMatchObject({ name: 'SamebitsError', code, cause: { cudaError } });
    delete process.env['CUDA_ON_HOST_ERROR'];
    expect(await buffer.read()).toEqual(new Uint8Array(16));
    await backend.dispose();
  });
});

describe('a process with calls in flight and nothing disposed', () => {
  const script = join(import.meta.dirname, '../native/leave_in_flight.mjs');

  test.for([
    ['end', 0],
    ['exit', 7],
    ['terminate', 3],
  ] as const)('leaves cleanly: %s', async ([way, expected], context) => {
    const build = await buildAddonOnHost();
    if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
    const { status, signal, stderr } = spawnSync(process.execPath, [script, build.path, way], { encoding: 'utf8' });
    expect({ status, signal, stderr }).toEqual({ status: expected, signal: null, stderr: '' });
  });
});
