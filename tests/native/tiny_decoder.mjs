// The smallest decoder that the addon takes: every size is 32, so that one weight and one vector do for all.

const SIZE = 32;
/** A layer's frequencies, and the floats of their pairs for a step of 4 rows. */
const FREQUENCIES = 8;
export const ROTARY_FLOATS = FREQUENCIES * 2 * 4;

/**
 * @param {import('../../node/cuda_addon.js').NativeAddon} native
 * @param {import('../../node/cuda_addon.js').NativeDevice} device
 */
export async function tinyParts(native, device) {
  const operand = { dtype: 'bf16', shape: [SIZE, 1], sizeBytes: SIZE * 2 };
  const qdata = { dtype: 'u8', shape: [SIZE, SIZE / 2], sizeBytes: (SIZE * SIZE) / 2 };
  const { handle: square } = await native.beginUpload(
    device,
    { layout: 'coalesced-int4', groupSize: SIZE, qdata, scale: operand, zeroPoint: operand },
    false,
  );
  await native.appendQdata(square, new Uint8Array((SIZE * SIZE) / 2));
  await native.appendScales(square, new Uint16Array(SIZE).fill(0x3c00), new Uint16Array(SIZE));
  native.finishUpload(square);
  const vector = await native.createBuffer(device, SIZE * 2);
  const embedding = await native.createBuffer(device, SIZE * SIZE * 2);
  return { square, vector, embedding };
}

/**
 * @param {Awaited<ReturnType<typeof tinyParts>>} parts
 * @returns {import('../../node/cuda_addon.js').NativeDecoderDescription}
 */
export function tinyDescription({ square, vector, embedding }) {
  /** @param {string} x @param {string} y */
  const linear = (x, y) => ({ kind: /** @type {const} */ ('linear'), layer: 0, weight: square, x, y });
  /** @param {typeof vector | null} branchWeight */
  const norm = (branchWeight) => ({
    kind: /** @type {const} */ ('norm'),
    ...{ branchWeight, nextWeight: vector, scalar: 1 },
  });
  return {
    ...{ hiddenSize: SIZE, intermediateSize: SIZE, vocabularySize: SIZE },
    ...{ epsilon: 1e-6, softCap: 30, embeddingScale: 1, rotaryFloats: ROTARY_FLOATS, embedding },
    layers: [
      {
        ...{ heads: 1, keyValueHeads: 1, headSize: SIZE, window: 8, hasValueProjection: true },
        ...{ frequencies: FREQUENCIES, rotaryOffset: 0, queryNorm: vector, keyNorm: vector },
      },
    ],
    operations: [
      { kind: 'embed' },
      norm(null),
      linear('x', 'q'),
      linear('x', 'k'),
      linear('x', 'v'),
      { kind: 'heads', layer: 0 },
      { kind: 'attention', layer: 0 },
      linear('attended', 'y'),
      norm(vector),
      linear('x', 'gate'),
      linear('x', 'up'),
      { kind: 'gelu' },
      linear('gated', 'y'),
      norm(vector),
      linear('x', 'logits'),
      { kind: 'softCap' },
    ],
  };
}
