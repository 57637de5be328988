// One result of the grid, looked at closely: its shape, and its output bits as fingerprints or as the first difference.

import type { ParityResult } from '../../core/index.js';
import { element } from '../dom.js';
import { type CudaRecord, recordedDigest } from '../records.js';
import { bitRow, fingerprint } from './bit_figures.js';

/** @param device where WebGPU ran; null when the reference ran alone */
export function proofDetail(result: ParityResult, device: string | null, records: readonly CudaRecord[]): HTMLElement {
  const { name, m, n, k, groupSize, sha256, outcomes } = result;
  const difference = outcomes.find((outcome) => outcome.difference)?.difference;
  const figures: Node[] = [];
  let caption = 'SHA-256 of the f32 and bf16 output bits, drawn as 256 squares:';
  if (difference) {
    const { expected, actual, outputType, count } = difference;
    const others = count === 1 ? 'the only one that differs' : `one of ${count.toLocaleString('en')} that differ`;
    caption = `${outputType} output y[m=${difference.m}, n=${difference.n}], ${others}:`;
    figures.push(bitFigure('CPU reference', expected, actual), bitFigure(device ?? 'WebGPU', actual, expected));
  } else {
    figures.push(digestFigure(device === null ? 'CPU reference' : `CPU reference and ${device}`, sha256));
    for (const record of records) {
      const digest = recordedDigest(record, name);
      if (digest !== undefined) figures.push(digestFigure(`CUDA, recorded on ${record.device}`, digest));
    }
  }
  return element(
    'article',
    { 'data-name': name },
    element('h3', {}, name),
    element('p', { class: 'quiet' }, `x [${m}, ${k}] · w [${n}, ${k}], groups of ${groupSize}`),
    element('p', { class: 'caption' }, caption),
    element('div', { class: 'figures' }, ...figures),
  );
}

function digestFigure(label: string, sha256: string): HTMLElement {
  return element(
    'figure',
    {},
    element('figcaption', {}, label, ' ', element('code', {}, `${sha256.slice(0, 16)}…`)),
    fingerprint(sha256, `Fingerprint ${sha256}`),
  );
}

function bitFigure(label: string, bits: string, other: string): HTMLElement {
  return element(
    'figure',
    { class: 'bits' },
    element('figcaption', {}, label, ' ', element('code', {}, bits)),
    ...(bits.startsWith('0x') && other.startsWith('0x') ? [bitRow(bits, other, `Bits ${bits}`)] : []),
  );
}
