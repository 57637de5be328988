// What a run proves: the built-in case table, or the packed weights of a samebits file.

import {
  CASES,
  CoalescedInt4Tensor,
  drawActivations,
  drawWeight,
  fileInputs,
  type ParityInput,
  type SamebitsFile,
  VERIFY_ROWS,
} from '../../core/index.js';

/** One weight and its inputs, loaded when their turn comes. */
export interface Subject {
  /** Names of the inputs, known before anything is loaded. */
  readonly names: readonly string[];
  load(): Promise<{ readonly weight: CoalescedInt4Tensor; readonly inputs: readonly ParityInput[] }>;
}

export function tableSubjects(): Subject[] {
  return CASES.map((parityCase) => ({
    names: [parityCase.name],
    load: async () => ({
      weight: CoalescedInt4Tensor.fromInt4Tensor(drawWeight(parityCase)),
      inputs: [{ name: parityCase.name, m: parityCase.m, x: drawActivations(parityCase) }],
    }),
  }));
}

/** Every packed weight of an open file at several M. */
export function fileSubjects(file: SamebitsFile): Subject[] {
  return [...file.weights.keys()].map((tensor) => ({
    names: VERIFY_ROWS.map((m) => `${tensor} m${m}`),
    load: async () => {
      const weight = await file.readWeight(tensor);
      return { weight, inputs: fileInputs(tensor, weight.k) };
    },
  }));
}
