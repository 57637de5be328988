// "Prove it": runs inputs on WebGPU, compares every output bit, fills a grid as it goes, and says what came of it.

import type { ParityResult } from '../../core/index.js';
import { element, type SectionParts } from '../dom.js';
import type { Failure, ProverReply, ProverRequest } from '../prover/messages.js';
import { RECORDS } from '../records.js';
import { proofDetail } from './proof_detail.js';
import { ProofGrid } from './proof_grid.js';
import { isEqual, judge } from './proof_verdict.js';

export interface ProofSection {
  handle(reply: ProverReply): void;
}

/** @param prove starts a run; its replies come to `handle` */
export function mountProof({ root, body }: SectionParts, prove: (request: ProverRequest) => void): ProofSection {
  const results: ParityResult[] = [];
  let names: readonly string[] = [];
  let device = 'this device';

  const start = element('button', { type: 'button', class: 'primary', disabled: true }, 'Run the case table');
  const file = element('input', { type: 'file', class: 'unseen', id: 'proof-file', disabled: true });
  const pick = element('label', { for: 'proof-file', class: 'secondary' }, 'or a samebits file of yours');
  const progress = element('progress', { value: 0, max: 1, 'aria-label': 'Inputs proved', hidden: true });
  const verdict = element('p', { class: 'verdict', role: 'status', 'aria-live': 'polite' });
  const detail = element('div', { class: 'detail' });
  const grid = new ProofGrid(showDetail);
  body.replaceChildren(
    element(
      'p',
      {},
      'Each square is one input: awkward shapes, extreme scales, outliers, zeros, NaN. It runs on WebGPU here, the ',
      'CPU reference runs beside it, and the two outputs are compared bit for bit, with no tolerance',
      ...(RECORDS.length > 0 ? [`; then with what ${RECORDS.map(({ device }) => device).join(' and ')} gave.`] : ['.']),
    ),
    element('div', { class: 'actions' }, start, file, pick),
    progress,
    verdict,
    grid.root,
    detail,
  );

  start.addEventListener('click', () => run({ kind: 'table' }));
  file.addEventListener('change', () => {
    const chosen = file.files?.[0];
    file.value = '';
    if (chosen) run({ kind: 'file', file: chosen });
  });

  function run(request: ProverRequest): void {
    enable(false);
    setState('running');
    results.length = 0;
    grid.reset([]);
    detail.replaceChildren();
    verdict.textContent = request.kind === 'file' ? `Reading ${request.file.name}…` : 'Running…';
    prove(request);
  }

  function enable(isEnabled: boolean): void {
    start.disabled = !isEnabled;
    file.disabled = !isEnabled;
  }

  function setState(state: 'idle' | 'running' | 'equal' | 'different' | 'failed' | 'unavailable'): void {
    root.dataset['state'] = state;
    progress.hidden = state !== 'running';
  }

  function showDetail(index: number): void {
    const result = results[index];
    if (result) detail.replaceChildren(proofDetail(result, device, RECORDS));
  }

  function onResult(index: number, result: ParityResult): void {
    results[index] = result;
    grid.mark(index, isEqual(result) ? 'equal' : 'different', result.sha256);
    grid.mark(index + 1, 'running');
    progress.value = index + 1;
  }

  function onFinished(): void {
    const { state, sentence, firstDifferent, records } = judge(results, device, RECORDS);
    setState(state);
    root.dataset['inputs'] = String(results.length);
    root.dataset['equal'] = String(results.filter(isEqual).length);
    root.dataset['recorded'] = String(records.reduce((sum, { compared }) => sum + compared, 0));
    root.dataset['recordedEqual'] = String(records.reduce((sum, { equal }) => sum + equal, 0));
    verdict.textContent = sentence;
    if (firstDifferent !== undefined) grid.mark(firstDifferent, 'different');
    grid.select(firstDifferent ?? 0);
    start.textContent = 'Run the case table again';
    enable(true);
  }

  function onFailed(failure: Failure): void {
    setState('failed');
    verdict.textContent = `The run ended early. ${failure.message}`;
    enable(true);
  }

  return {
    handle: (reply) => {
      switch (reply.kind) {
        case 'device':
          device = reply.device.info.name;
          enable(true);
          break;
        case 'unavailable':
          setState('unavailable');
          verdict.textContent = 'Nothing to prove here: this browser gave the page no WebGPU device. See above.';
          break;
        case 'started':
          names = reply.names;
          progress.max = names.length;
          progress.value = 0;
          verdict.textContent = `Running ${names.length} inputs…`;
          grid.reset(names);
          grid.mark(0, 'running');
          break;
        case 'result':
          onResult(reply.index, reply.result);
          break;
        case 'finished':
          onFinished();
          break;
        case 'failed':
          onFailed(reply.failure);
          break;
      }
    },
  };
}
