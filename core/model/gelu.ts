// The two functions of one value that the decoder has: the gate of its MLP, and the soft cap of its logits.

import { add, clampTo80, exp, floatFromBits, mul, rcp } from './elementary.js';

const CUBIC = Math.fround(0.044715);
/** 2 sqrt(2 / pi) */
const SLOPE = floatFromBits(0x3fcc422a);

/** GELU by its tanh. */
export function gelu(g: number): number {
  const z = clampTo80(mul(SLOPE, add(g, mul(CUBIC, mul(mul(g, g), g)))));
  return mul(g, rcp(add(1, exp(-z))));
}

/** cap * tanh(logit / cap). */
export function softCap(logit: number, cap: number): number {
  const z = clampTo80(mul(logit, Math.fround(2 / cap)));
  return mul(cap, add(1, -mul(2, rcp(add(exp(z), 1)))));
}
