// The addon of FAULTY_ADDON_OF with a fault: now and then, by its activations alone, an f32 result has one wrong bit.

const native = require(process.env['FAULTY_ADDON_OF'] ?? '');

module.exports = {
  ...native,
  /** @type {import('../../node/cuda_addon.js').NativeAddon['linear']} */
  async linear(weight, x, outputBf16) {
    const isWrong = !outputBf16 && x[0] !== undefined && x[0] % 16 === 3;
    const y = await native.linear(weight, x, outputBf16);
    const bits = new Uint8Array(y);
    if (isWrong) bits[0] = (bits[0] ?? 0) ^ 1;
    return y;
  },
};
