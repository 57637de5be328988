// "Prove it": runs inputs on WebGPU, compares every output bit, fills a grid as it goes, and says what came of it.

import type { ParityResult } from '../../core/index.js';
import { version } from '../../package.json';
import { element, type SectionParts } from '../dom.js';
import type { Engine, Job } from '../engine/engine.js';
import type { DeviceReport, ProofEvent, ProofSubject } from '../engine/messages.js';
import { RECORDS } from '../records.js';
import { fetchSampleModel, SAMPLE_MODEL } from '../sample_model.js';
import { copyButton } from './copy_button.js';
import { proofDetail } from './proof_detail.js';
import { ProofGrid } from './proof_grid.js';
import { proofReport } from './proof_report.js';
import { isEqual, judge } from './proof_verdict.js';

type State = 'idle' | 'running' | 'equal' | 'different' | 'uncompared' | 'failed' | 'cancelled';

export function mountProof({ root, body }: SectionParts, engine: Engine): void {
  const results: ParityResult[] = [];
  let device: DeviceReport | null = null;
  let job: Job<'prove'> | null = null;

  const start = element('button', { type: 'button', class: 'primary', disabled: true }, 'Run the case table');
  const modelButton = element(
    'button',
    { type: 'button', class: 'secondary', disabled: true, title: `${SAMPLE_MODEL.words}, ${SAMPLE_MODEL.size}` },
    'Run the real model',
  );
  const file = element('input', { type: 'file', class: 'unseen', id: 'proof-file', disabled: true });
  const pick = element('label', { for: 'proof-file', class: 'link' }, 'or a samebits file of yours');
  const cancel = element('button', { type: 'button', class: 'secondary', hidden: true }, 'Cancel');
  const progress = element('progress', { value: 0, max: 1, 'aria-label': 'Inputs proved' });
  const verdict = element('p', { class: 'verdict', role: 'status', 'aria-live': 'polite' });
  const reportText = element('pre', { tabindex: 0, 'aria-label': 'The report' });
  const report = element(
    'div',
    { class: 'report', hidden: true },
    copyButton('Copy the report', () => reportText.textContent ?? ''),
    element('details', {}, element('summary', {}, 'What it says'), reportText),
  );
  const detail = element('div', { class: 'detail' });
  const grid = new ProofGrid((index) => {
    const result = results[index];
    if (result) detail.replaceChildren(proofDetail(result, device?.info.name ?? null, RECORDS));
  });
  body.replaceChildren(
    element('div', { class: 'actions' }, start, modelButton, cancel, file, pick),
    progress,
    verdict,
    grid.root,
    report,
    detail,
  );

  start.addEventListener('click', () => run(() => ({ kind: 'table' }), 'Running…'));
  modelButton.addEventListener('click', () =>
    run(async () => ({ kind: 'model', files: await fetchSampleModel() }), `Fetching the model, ${SAMPLE_MODEL.size}…`),
  );
  file.addEventListener('change', () => {
    const chosen = file.files?.[0];
    file.value = '';
    if (chosen) run(() => ({ kind: 'file', file: chosen }), `Reading ${chosen.name}…`);
  });
  cancel.addEventListener('click', () => job?.cancel());

  async function run(subjectOf: () => ProofSubject | Promise<ProofSubject>, words: string): Promise<void> {
    results.length = 0;
    grid.reset([]);
    detail.replaceChildren();
    report.hidden = true;
    verdict.textContent = words;
    setState('running');
    try {
      const subject = await subjectOf();
      job = engine.start('prove', subject, onEvent);
      cancel.disabled = false;
      const outcome = await job.outcome;
      if (outcome.kind === 'done') finish();
      else if (outcome.kind === 'failed') end('failed', `The run ended early. ${outcome.failure.message}`);
      else end('cancelled', `Cancelled after ${results.length} of ${progress.max} inputs.`);
    } catch (error) {
      end('failed', error instanceof Error ? error.message : String(error));
    } finally {
      job = null;
    }
  }

  function setState(state: State): void {
    const isRunning = state === 'running';
    root.dataset['state'] = state;
    progress.classList.toggle('active', isRunning);
    cancel.hidden = !isRunning;
    cancel.disabled = true;
    for (const control of [start, modelButton, file]) control.disabled = isRunning;
  }

  function end(state: State, sentence: string): void {
    setState(state);
    grid.mark(results.length, 'pending');
    verdict.textContent = sentence;
  }

  function onEvent(event: ProofEvent): void {
    if (event.kind === 'started') {
      progress.max = event.names.length;
      progress.value = 0;
      verdict.textContent = `Running ${event.names.length} inputs…`;
      grid.reset(event.names);
      grid.mark(0, 'running');
      return;
    }
    const { index, result } = event;
    results[index] = result;
    grid.mark(index, isEqual(result) ? 'equal' : 'different', result.sha256);
    grid.mark(index + 1, 'running');
    progress.value = index + 1;
  }

  function finish(): void {
    const judged = judge(results, device?.info.name ?? null, RECORDS);
    const { state, sentence, firstDifferent, records } = judged;
    root.dataset['inputs'] = String(results.length);
    root.dataset['equal'] = String(results.filter(isEqual).length);
    root.dataset['recorded'] = String(records.reduce((sum, { compared }) => sum + compared, 0));
    root.dataset['recordedEqual'] = String(records.reduce((sum, { equal }) => sum + equal, 0));
    end(state, sentence);
    if (firstDifferent !== undefined) grid.mark(firstDifferent, 'different');
    grid.select(firstDifferent ?? 0);
    reportText.textContent = proofReport({
      verdict: judged,
      results,
      device,
      records: RECORDS,
      userAgent: navigator.userAgent,
      version,
      shaderSourcesSha256: __SHADER_SOURCES_SHA256__,
    });
    report.hidden = false;
  }

  engine.onDevice((message) => {
    device = message.kind === 'device' ? message.device : null;
    if (root.dataset['state'] !== 'running') for (const control of [start, modelButton, file]) control.disabled = false;
  });
}
