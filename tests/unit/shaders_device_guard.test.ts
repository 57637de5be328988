// DeviceGuard on a device that fails on demand: each kind of failure, its code, and errors of interleaved calls.

import { describe, expect, test } from 'vitest';
import { type ErrorCode, SamebitsError } from '../../core/index.js';
import { DeviceGuard } from '../../shaders/device_guard.js';

const refusal = (code: ErrorCode) => expect.objectContaining({ name: 'SamebitsError', code });

/** The part of a GPUDevice that a guard uses: error scopes that work as WebGPU defines them, and a loss on demand. */
function fakeDevice() {
  const scopes: { filter: GPUErrorFilter; error: GPUError | null }[] = [];
  let lose: (info: GPUDeviceLostInfo) => void = () => {};
  const device = {
    lost: new Promise<GPUDeviceLostInfo>((resolve) => {
      lose = resolve;
    }),
    pushErrorScope: (filter: GPUErrorFilter) => {
      scopes.push({ filter, error: null });
    },
    popErrorScope: async () => scopes.pop()!.error,
  };
  return {
    guard: new DeviceGuard(device as unknown as GPUDevice),
    scopes,
    lose: () => lose({ __brand: 'GPUDeviceLostInfo', reason: 'unknown', message: 'unplugged' }),
    /** What the device does with an error: the innermost scope of its kind keeps the first one. */
    raise: (filter: GPUErrorFilter, message: string) => {
      const scope = scopes.findLast((candidate) => candidate.filter === filter);
      if (!scope) throw new Error(`uncaptured ${filter}`);
      scope.error ??= { message } as GPUError;
    },
  };
}

describe('error scopes', () => {
  test.for([
    ['validation', 'DEVICE_FAILURE'],
    ['internal', 'DEVICE_FAILURE'],
    ['out-of-memory', 'DEVICE_OUT_OF_MEMORY'],
  ] as const)('%s: %s', async ([filter, code]) => {
    const { guard, scopes, raise } = fakeDevice();
    const call = guard.run('a test', () => raise(filter, 'so it goes'));
    await expect(call).rejects.toThrow(refusal(code));
    await expect(call).rejects.toThrow(/a test.*so it goes/);
    expect(scopes).toEqual([]);
  });

  test('memory explains the validation errors that follow from it', async () => {
    const { guard, raise } = fakeDevice();
    const call = guard.run('a test', () => {
      raise('out-of-memory', 'no room');
      raise('validation', 'invalid buffer');
    });
    await expect(call).rejects.toThrow(refusal('DEVICE_OUT_OF_MEMORY'));
  });

  test('work that throws leaves no scope behind', async () => {
    const { guard, scopes } = fakeDevice();
    const call = guard.run('a test', () => {
      throw new TypeError('no such thing');
    });
    await expect(call).rejects.toThrow(refusal('DEVICE_FAILURE'));
    expect(scopes).toEqual([]);
  });

  test("a refusal of samebits' own passes through", async () => {
    const { guard } = fakeDevice();
    const own = new SamebitsError('DEVICE_LIMIT', { rule: 'r', expected: 'e', got: 'g', fix: 'f' });
    await expect(
      guard.run('a test', () => {
        throw own;
      }),
    ).rejects.toBe(own);
  });

  test('calls at the same time keep their errors apart', async () => {
    const { guard, raise } = fakeDevice();
    const calls = Array.from({ length: 6 }, (_, i) =>
      guard.run(`call ${i}`, () => {
        if (i % 2 === 1) raise('validation', `error ${i}`);
        return i;
      }),
    );
    const results = await Promise.allSettled(calls);
    expect(results.map(({ status }) => status)).toEqual(calls.map((_, i) => (i % 2 ? 'rejected' : 'fulfilled')));
  });
});

describe('a lost device', () => {
  test('rejects what waits, which would wait for ever', async () => {
    const { guard, lose } = fakeDevice();
    const waiting = guard.settle('a map', new Promise<void>(() => {}));
    lose();
    await expect(waiting).rejects.toThrow(refusal('DEVICE_LOST'));
    await expect(waiting).rejects.toThrow(/unplugged/);
  });

  test('is what a rejection just before it means', async () => {
    const { guard, lose } = fakeDevice();
    const waiting = guard.settle('a map', Promise.reject(new Error('aborted')));
    lose();
    await expect(waiting).rejects.toThrow(refusal('DEVICE_LOST'));
  });

  test('may be told some turns after what it rejects, as in a browser that is busy', async () => {
    const { guard, lose } = fakeDevice();
    const waiting = guard.settle('a map', Promise.reject(new Error('unmapped before mapping was resolved')));
    setTimeout(lose, 20);
    await expect(waiting).rejects.toThrow(refusal('DEVICE_LOST'));
  });

  test('is not what any other rejection means', async () => {
    const { guard } = fakeDevice();
    const waiting = guard.settle('a map', Promise.reject(new Error('aborted')));
    await expect(waiting).rejects.toThrow(refusal('DEVICE_FAILURE'));
  });

  test('refuses everything after', async () => {
    const { guard, lose } = fakeDevice();
    lose();
    await Promise.resolve();
    expect(() => guard.requirePresent()).toThrow(refusal('DEVICE_LOST'));
    await expect(guard.run('a test', () => 1)).rejects.toThrow(refusal('DEVICE_LOST'));
    await expect(guard.settle('a map', Promise.resolve())).rejects.toThrow(refusal('DEVICE_LOST'));
  });
});
