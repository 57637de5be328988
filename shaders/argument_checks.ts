// What callers may ask of the webgpu backend: output types, buffer sizes, ranges of their own buffers.

import { SamebitsError } from '../core/errors.js';
import type { OutputType } from '../core/reference.js';
import { wordAligned } from './device_buffer.js';

/**
 * The output type that was asked for, f32 when none was.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function checkedOutputType(outputType: OutputType = 'f32'): OutputType {
  if (outputType === 'f32' || outputType === 'bf16') return outputType;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'outputType must be one that the operator has',
    expected: "'f32' or 'bf16'",
    got: String(outputType),
    fix: 'Leave it out for f32.',
  });
}

/**
 * What one buffer of this device can hold and one binding can reach.
 * @throws SamebitsError ARGUMENT_INVALID, DEVICE_LIMIT
 */
export function checkBufferSize(device: GPUDevice, sizeBytes: number): void {
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  if (!Number.isInteger(sizeBytes) || sizeBytes < 1) {
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: 'the size of a buffer must be a positive integer',
      expected: 'a number of bytes',
      got: String(sizeBytes),
      fix: 'Pass M * K * 2 for activations, M * N * 4 or * 2 for outputs.',
    });
  }
  if (wordAligned(sizeBytes) <= limit) return;
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
  if (buffer.size >= sizeBytes) return { buffer, offset: 0, size: sizeBytes };
  throw new SamebitsError('BYTE_LENGTH_MISMATCH', {
    rule: `${name} must hold its shape`,
    expected: `at least ${sizeBytes} bytes`,
    got: `${buffer.size} bytes`,
    fix: 'Create the buffer with M * K * 2 bytes for x, M * N * 4 (f32) or * 2 (bf16, rounded up to 4) for y.',
  });
}
