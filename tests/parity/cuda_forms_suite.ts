// What must hold of the cuda backend for weights of every form, wherever its kernels run.

import { describe, expect, test } from 'vitest';
import {
  type CoalescedInt4Tensor,
  describeForm,
  drawActivations,
  drawFormWeight,
  FORM_CASES,
  type FormCase,
  firstDifference,
  formatDifference,
  int4PlainMM,
  type WeightForm,
} from '../../core/index.js';
import type { DecoderSource } from '../../core/model/decoder_backend.js';
import type { DecoderConfig } from '../../core/model/decoder_config.js';
import type { CudaBackend } from '../../node/cuda_backend.js';
import type { OpenCuda } from './cuda_suite.js';
import { drawDecoderSource } from './decoder_source.js';
import { drawnTokens, expectReference, referenceLogits } from './decoder_suite.js';
import { drawnPlans, WEIGHTS_OF_FORMS } from './drawn_plans.js';
import { SMALL_DECODER } from './hard_decoders.js';

const FORMS = [...new Map(FORM_CASES.map(({ form }) => [describeForm(form), form])).values()];
const formNamed = (kind: WeightForm['kind']) => FORMS.find((form) => form.kind === kind)!;

async function checkCase(backend: CudaBackend, of: FormCase): Promise<void> {
  const tensor = drawFormWeight(of);
  const x = drawActivations(of);
  const weight = await backend.upload(tensor);
  expect([of.name, weight.sizeBytes]).toEqual([of.name, tensor.sizeBytes]);
  for (const outputType of ['f32', 'bf16'] as const) {
    const y = outputType === 'f32' ? await backend.linear(x, weight) : await backend.linear(x, weight, { outputType });
    const difference = firstDifference(int4PlainMM(x, tensor, outputType), y, of.n);
    const where = `${of.name}, ${outputType}: `;
    expect(where + (difference === null ? 'equal' : formatDifference(difference))).toBe(`${where}equal`);
  }
  weight.dispose();
}

/** Sizes that are whole steps of 256, so that every linear can be nested. */
const NESTED_DECODER: DecoderConfig = {
  ...SMALL_DECODER,
  hiddenSize: 256,
  intermediateSize: 768,
  layers: [
    { ...SMALL_DECODER.layers[0]!, heads: 8 },
    { ...SMALL_DECODER.layers[1]!, heads: 4, headSize: 64 },
  ],
};

/** The weights of a drawn decoder in other forms. */
function sourceInForms(formOf: (linear: string) => WeightForm, groupSizeOf: (linear: string) => number): DecoderSource {
  const source = drawDecoderSource(NESTED_DECODER, groupSizeOf);
  const linears = new Map<string, CoalescedInt4Tensor>();
  return {
    ...source,
    linear: async (linear, layer) => {
      const name = `${linear} ${layer}`;
      const { n, k, groupSize } = await source.linear(linear, layer);
      const tensor =
        linears.get(name) ?? drawFormWeight({ name, form: formOf(linear), n, k, groupSize, weights: 'plain' });
      linears.set(name, tensor);
      return tensor;
    },
  };
}

/** Declares the suite over those of `cases` that are of some form. */
export function cudaFormsSuite(open: OpenCuda, cases: readonly FormCase[] = FORM_CASES): void {
  describe.each(FORMS.map((form) => [describeForm(form), form] as const))('%s', (name) => {
    test('the case table', async (context) => {
      const backend = await open(context);
      const own = cases.filter(({ form }) => describeForm(form) === name);
      expect(own.length).toBeGreaterThan(5);
      for (const of of own) await checkCase(backend, of);
    });
  });

  test.for<[string, (linear: string) => WeightForm, (linear: string) => number, number[]]>([
    ['nested offsets', () => formNamed('nested-offset'), () => 32, [1]],
    ['nested offsets, 1 to 4 tokens', () => formNamed('nested-offset'), () => 32, [3, 4, 2]],
    ['nested zero points in groups of 16', () => formNamed('nested-zero'), () => 16, [1]],
    ['offsets', () => formNamed('offset'), () => 64, [1]],
    [
      'another form for each linear',
      (linear) => FORMS[[...linear].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % FORMS.length]!,
      (linear) => (linear === 'k' ? 16 : 32),
      [2, 1],
    ],
  ])('steps of a decoder with %s', async ([, formOf, groupSizeOf, sizes], context) => {
    const backend = await open(context);
    const source = sourceInForms(formOf, groupSizeOf);
    const tokens = drawnTokens('forms', 7, NESTED_DECODER.vocabularySize);
    const decoder = await backend.loadDecoder(source);
    await expectReference(decoder, await referenceLogits(source, tokens), tokens, sizes);
    decoder.dispose();
  });

  drawnPlans(open, 0, 16, WEIGHTS_OF_FORMS);
}
