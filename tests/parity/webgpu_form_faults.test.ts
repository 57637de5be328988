// Kernels with one planted fault each in what forms of a weight have of their own: the inputs of the suite must catch every one.

import { expect, test } from 'vitest';
import {
  drawActivations,
  drawFormWeight,
  FORM_CASES,
  type FormCase,
  type FormKind,
  firstDifference,
  type HalfDtype,
  int4PlainMM,
} from '../../core/index.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { hasFixedSubgroups } from '../../shaders/variant_choice.js';
import { useDawn } from './webgpu_device.js';
import { type Edit, plant } from './webgpu_planted.js';

const dawn = useDawn();

interface Fault {
  readonly name: string;
  /** The form that has it. */
  readonly kind: FormKind;
  /** f16 by default. */
  readonly dtype?: HalfDtype;
  /** 32 and more by default. */
  readonly groupSize?: 16;
  readonly edits: readonly Edit[];
}

const FIRST_TERM = 'fence(fence(s * scale) * centered)';
const SECOND_TERM = 'fence(fence(second * scale) * sum)';

const FAULTS: readonly Fault[] = [
  {
    name: 'an offset that is not added',
    kind: 'offset',
    dtype: 'bf16',
    edits: [[`add_term(add_term(total, ${FIRST_TERM}), ${SECOND_TERM})`, `add_term(total, ${FIRST_TERM})`]],
  },
  {
    name: 'the two terms of a run summed in f32 before they are rounded',
    kind: 'offset',
    dtype: 'bf16',
    edits: [
      [`add_term(add_term(total, ${FIRST_TERM}), ${SECOND_TERM})`, `add_term(total, ${FIRST_TERM} + ${SECOND_TERM})`],
    ],
  },
  { name: 'a center of 0', kind: 'offset', edits: [['f32(p_1.center)', '0.0']] },
  {
    name: 'f16 subnormals flushed',
    kind: 'zero',
    edits: [
      [
        'bitcast<f32>(bitcast<u32>(value) | (bits',
        'bitcast<f32>(select(bitcast<u32>(value), 0u, value < F16_MIN_NORMAL) | (bits',
      ],
    ],
  },
  {
    name: 'steps of the next 256 weights',
    kind: 'nested-offset',
    edits: [
      [
        'let steps = (first + block) / STEP_BLOCKS * p_1.step_words;',
        `let steps = (first + block) / STEP_BLOCKS * p_1.step_words;
        let next = (first + (block + STEP_BLOCKS) % p_1.blocks) / STEP_BLOCKS * p_1.step_words;`,
      ],
      ['groups_1[steps]);', 'groups_1[next]);'],
    ],
  },
  {
    name: 'codes of a block without those of its second run',
    kind: 'nested-zero',
    groupSize: 16,
    edits: [['words.x >> 16u, center', 'words.x, center']],
  },
  {
    // What a fused multiply-add gives, which SwiftShader has none of.
    name: 'a nested zero point whose product is not rounded',
    kind: 'nested-zero',
    edits: [
      ['fence(f32(dp) - zeros)', 'fence(fused(f32(dp), second_code * second, asum))'],
      [
        'fn add_run(',
        `fn fused(dp: f32, z: f32, asum: f32) -> f32 {
          let head = bitcast<f32>(bitcast<u32>(z) & 0xfffff000u);
          return (dp - head * asum) - (z - head) * asum;
        }
        fn add_run(`,
      ],
    ],
  },
  {
    name: 'a nested scale whose code multiplies last',
    kind: 'nested-zero',
    edits: [
      ['s = fence(s_code * s);', ''],
      ['fence(fence(s * scale) * t)', 'fence(fence(s_code * fence(s * scale)) * t)'],
    ],
  },
];

/** Those of one row, which webgpu_forms.test.ts shows to be right without a fault. */
function inputsOf({ kind, dtype = 'f16', groupSize }: Fault): readonly FormCase[] {
  return FORM_CASES.filter(
    ({ form, groupSize: own, m, n, k }) =>
      form.kind === kind && form.dtype === dtype && (own === 16) === (groupSize === 16) && m === 1 && n * k < 70_000,
  );
}

async function wrongInputs(device: GPUDevice, inputs: readonly FormCase[]): Promise<string[]> {
  const reduction = hasFixedSubgroups(device) ? 'subgroup' : 'workgroup';
  const backend = await WebGPUBackend.create(device, { reduction, dot: 'packed' });
  const wrong: string[] = [];
  for (const of of inputs) {
    const [weight, x] = [drawFormWeight(of), drawActivations(of)];
    const y = await backend.linear(x, await backend.upload(weight));
    if (firstDifference(int4PlainMM(x, weight), y, of.n)) wrong.push(of.name);
  }
  await backend.dispose();
  return wrong;
}

test.for(FAULTS)('$name', async (fault, context) => {
  const { device } = dawn(context);
  plant(device, fault.edits);
  expect(await wrongInputs(device, inputsOf(fault))).not.toEqual([]);
});
