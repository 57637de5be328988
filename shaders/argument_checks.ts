// What callers may ask of the webgpu backend beyond what every backend checks: limits of the device, their own buffers.

import { checkedSizeBytes } from '../core/argument_checks.js';
import { SamebitsError } from '../core/errors.js';
import { wordAligned } from './device_buffer.js';

/**
 * What one buffer of this device can hold and one binding can reach.
 * @throws SamebitsError ARGUMENT_INVALID, DEVICE_LIMIT
 */
export function checkBufferSize(device: GPUDevice, sizeBytes: number): void {
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  if (wordAligned(checkedSizeBytes(sizeBytes)) <= limit) return;
  throw new SamebitsError('DEVICE_LIMIT', {
    rule: 'a buffer must fit one binding of this device',
    expected: `at most ${limit} bytes (maxStorageBufferBindingSize, maxBufferSize)`,
    got: `${sizeBytes} bytes`,
    fix: 'Use fewer rows of activations, or a device that was requested with higher limits.',
  });
}

/**
 * The first `sizeBytes` of a caller's buffer.
 * @throws SamebitsError BYTE_LENGTH_MISMATCH when it is smaller
 */
export function wholeRange(name: string, buffer: GPUBuffer, sizeBytes: number): GPUBufferBinding {
  if (buffer?.size >= sizeBytes) return { buffer, offset: 0, size: sizeBytes };
  throw new SamebitsError('BYTE_LENGTH_MISMATCH', {
    rule: `${name} must hold its shape`,
    expected: `at least ${sizeBytes} bytes`,
    got: `${buffer?.size} bytes`,
    fix: 'Create the buffer with M * K * 2 bytes for x, M * N * 4 (f32) or * 2 (bf16, rounded up to 4) for y.',
  });
}
