// Plans drawn at random: chains, shared inputs, buffers written twice and in place, every mix of group sizes, shapes and rows.

import { expect, test } from 'vitest';
import {
  type Backend,
  CoalescedInt4Tensor,
  type DeviceBuffer,
  describeForm,
  drawActivations,
  drawFormWeight,
  drawWeight,
  FORM_CASES,
  firstDifference,
  formatDifference,
  int4PlainMM,
  type PlanStep,
  Random,
} from '../../core/index.js';
import { soakGroupSizes } from '../../core/parity/soak_cases.js';
import type { OpenCuda } from './cuda_suite.js';

const SEED = Number(process.env['SAMEBITS_SEED'] ?? 1);
const MAX_STEPS = 12;
const MAX_M = 6;

/** What the weights of plans are drawn from. */
export interface PlanWeights {
  readonly name: string;
  /** Of x and y; K where a multiple of 32. */
  readonly widths: readonly number[];
  draw(random: Random, name: string, n: number, k: number): CoalescedInt4Tensor;
}

const pickFrom = <T>(random: Random, list: readonly T[]): T => list[random.below(list.length)]!;

const DEFAULT_WEIGHTS: PlanWeights = {
  name: 'plans',
  widths: [32, 64, 96, 128, 160, 256, 384, 7, 33],
  draw: (random, name, n, k) => {
    const groupSize = pickFrom(random, soakGroupSizes(k));
    const weights = pickFrom(random, ['plain', 'real-zero', 'symmetric'] as const);
    return CoalescedInt4Tensor.fromInt4Tensor(drawWeight({ name, n, k, groupSize, weights }));
  },
};

const FORMS = [...new Map(FORM_CASES.map(({ form }) => [describeForm(form), form])).values()];

/** Weights of every form that their K can have, side by side in a plan. */
export const WEIGHTS_OF_FORMS: PlanWeights = {
  name: 'plans of every form',
  widths: [256, 512, 32, 160, 256, 33],
  draw: (random, name, n, k) => {
    const forms = FORMS.filter(({ kind }) => !kind.startsWith('nested') || k % 256 === 0);
    const form = pickFrom(random, forms.slice(0, 1 + random.below(forms.length)));
    const largest = form.kind.startsWith('nested') ? 256 : k;
    const groupSize = pickFrom(
      random,
      soakGroupSizes(k).filter((size) => size <= largest),
    );
    return drawFormWeight({ name, form, n, k, groupSize, weights: 'plain' });
  },
};

/** A buffer of a plan, and what the reference says is in it. */
interface Held {
  readonly buffer: DeviceBuffer;
  readonly m: number;
  readonly width: number;
  values: Uint16Array | Float32Array;
}

interface Step extends PlanStep {
  readonly tensor: CoalescedInt4Tensor;
  readonly from: Held;
  readonly to: Held;
}

/** Runs plan `index` of this seed twice, the second time on what the first has left, and compares every buffer. */
async function checkPlan(backend: Backend, index: number, { widths, draw }: PlanWeights): Promise<void> {
  const random = Random.named(`plan ${index} of seed ${SEED}`);
  const pick = <T>(list: readonly T[]): T => pickFrom(random, list);
  const owned: { dispose(): void }[] = [];
  const held: Held[] = [];
  const hold = async (m: number, width: number, values: Uint16Array | Float32Array) => {
    const buffer = await backend.createBuffer(values.byteLength);
    await buffer.write(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    owned.push(buffer);
    held.push({ buffer, m, width, values });
    return held.at(-1)!;
  };
  for (let i = 0; i < 2; i++) {
    const [m, width] = [1 + random.below(MAX_M), pick(widths.filter((k) => k % 32 === 0))];
    const values = drawActivations({ name: `plan ${index} x${i}`, m, k: width, activations: 'plain' });
    await hold(m, width, values);
  }
  const steps: Step[] = [];
  const count = 1 + random.below(MAX_STEPS);
  while (steps.length < count) {
    const isChained = random.below(3) > 0 && steps.length > 0;
    const readable = held.filter(({ values, width }) => values instanceof Uint16Array && width % 32 === 0);
    const last = steps.at(-1)?.to;
    const from = isChained && last && readable.includes(last) ? last : pick(readable);
    const n = pick(widths);
    const outputType = random.below(4) > 0 ? 'bf16' : 'f32';
    const empty = outputType === 'bf16' ? new Uint16Array(from.m * n) : new Float32Array(from.m * n);
    const alike = held.filter(
      ({ m, width, values }) => m === from.m && width === n && values.constructor === empty.constructor,
    );
    const to = alike.length > 0 && random.below(3) === 0 ? pick(alike) : await hold(from.m, n, empty);
    const tensor = draw(random, `plan ${index} step ${steps.length}`, n, from.width);
    const weight = await backend.upload(tensor);
    owned.push(weight);
    steps.push({ m: from.m, x: from.buffer, weight, y: to.buffer, outputType, tensor, from, to });
  }
  const plan = await backend.plan(steps.map(({ m, x, weight, y, outputType }) => ({ m, x, weight, y, outputType })));
  owned.push(plan);
  for (let run = 0; run < 2; run++) {
    await plan.run();
    for (const { tensor, from, to, outputType } of steps) {
      if (!(from.values instanceof Uint16Array)) throw new TypeError('a step reads bf16');
      to.values = int4PlainMM(from.values, tensor, outputType);
    }
    for (const [i, { buffer, values, width }] of held.entries()) {
      const bytes = (await buffer.read()).slice().buffer;
      const actual = values instanceof Uint16Array ? new Uint16Array(bytes) : new Float32Array(bytes);
      const difference = firstDifference(values, actual, width);
      const where = `plan ${index} of seed ${SEED}, run ${run}, buffer ${i}: `;
      expect(where + (difference === null ? 'equal' : formatDifference(difference))).toBe(`${where}equal`);
    }
  }
  for (const resource of owned.reverse()) resource.dispose();
}

/** `count` plans of the seed, from plan `first`. */
export function drawnPlans(open: OpenCuda, first: number, count: number, weights = DEFAULT_WEIGHTS): void {
  test(`${weights.name} ${first}..${first + count - 1} of seed ${SEED} have the reference's bits`, async (context) => {
    const backend = await open(context);
    for (let index = first; index < first + count; index++) await checkPlan(backend, index, weights);
  });
}
