// "Let it write": the small model writes verses on this device, from a seed, and the text is compared with the recorded one.

import { element, type SectionParts } from '../dom.js';
import type { Engine, Job, Outcome } from '../engine/engine.js';
import type { WriteEvent } from '../engine/messages.js';
import { inBytes, inPace } from '../figures.js';
import { fetchPackedModel } from '../sample_model.js';
import { VERSE_RECORDS, VERSES } from '../verse_records.js';
import { judgeVerses } from './verse_verdict.js';

type State = 'idle' | 'loading' | 'writing' | 'equal' | 'different' | 'unrecorded' | 'failed' | 'cancelled';

export function mountVerses({ root, body }: SectionParts, engine: Engine): void {
  let job: Job<'write'> | null = null;
  let written = '';

  const seed = element('input', { id: 'verses-seed', type: 'number', min: 0, max: 2 ** 32 - 1, step: 1, value: 1 });
  const where = element('select', { id: 'verses-where', disabled: true });
  const start = element('button', { type: 'button', class: 'primary', disabled: true }, 'Write');
  const stop = element('button', { type: 'button', class: 'secondary', hidden: true }, 'Stop');
  const progress = element('progress', { value: 0, max: 1, 'aria-label': 'Model loaded' });
  const computed = element('p', { class: 'quiet' });
  const words = document.createTextNode('');
  const text = element(
    'div',
    { class: 'card text', role: 'region', tabindex: 0, 'aria-label': 'What the model writes' },
    element('span', { class: 'opening' }, VERSES.prompt),
    words,
  );
  const pace = element('p', { class: 'pace' });
  const verdict = element('p', { class: 'verdict', role: 'status', 'aria-live': 'polite' });
  body.replaceChildren(
    element(
      'div',
      { class: 'actions' },
      element('span', { class: 'seed' }, element('label', { for: 'verses-seed' }, 'Seed'), seed),
      element('label', { for: 'verses-where', class: 'unseen' }, 'Computed by'),
      where,
      start,
      stop,
    ),
    progress,
    text,
    pace,
    verdict,
    computed,
  );
  start.addEventListener('click', () => void run());
  stop.addEventListener('click', () => job?.cancel());
  seed.addEventListener('keydown', ({ key }) => {
    if (key === 'Enter' && !start.disabled) void run();
  });

  async function run(): Promise<void> {
    if (!seed.checkValidity() || seed.value === '') {
      verdict.textContent = `A seed is an integer from 0 to ${2 ** 32 - 1}.`;
      return;
    }
    const drawnFrom = seed.valueAsNumber;
    const on = where.value === 'device' ? 'device' : 'reference';
    written = '';
    words.data = '';
    pace.textContent = '';
    verdict.textContent = '';
    setState('loading');
    try {
      const file = await fetchPackedModel((done, total) => {
        pace.textContent = `Fetching the model: ${inBytes(done)} of ${inBytes(total)}`;
      });
      const { prompt, maxNewTokens, temperature, topK } = VERSES;
      job = engine.start('write', { file, on, prompt, maxNewTokens, temperature, topK, seed: drawnFrom }, onEvent);
      stop.disabled = false;
      finish(await job.outcome, drawnFrom);
    } catch (error) {
      setState('failed');
      verdict.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      job = null;
      start.textContent = 'Write it again';
    }
  }

  function onEvent(event: WriteEvent): void {
    switch (event.kind) {
      case 'loading':
        progress.max = event.totalBytes;
        progress.value = event.doneBytes;
        pace.textContent = 'Copying the model to the device…';
        break;
      case 'ready':
        setState('writing');
        pace.textContent = '';
        computed.textContent = event.isSoftware
          ? `Computed by ${event.device}, on the processor and not on a GPU: the text counts, the speed does not.`
          : `Computed on ${event.device}.`;
        break;
      case 'text': {
        const isAtEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 4;
        written += event.delta;
        words.data = written;
        if (isAtEnd) text.scrollTop = text.scrollHeight;
        if (event.decodedTokens > 0)
          pace.textContent = paceOf(event.decodedTokens + 1, event.decodedTokens, event.decodeMs);
        break;
      }
    }
  }

  function finish(outcome: Outcome<'write'>, drawnFrom: number): void {
    if (outcome.kind === 'failed') {
      setState('failed');
      verdict.textContent = `The text ended early. ${outcome.failure.message}`;
      return;
    }
    const isWhole = outcome.kind === 'done';
    const { state, sentence } = judgeVerses(written, drawnFrom, isWhole, VERSE_RECORDS);
    root.dataset['verdict'] = state;
    setState(isWhole ? state : 'cancelled');
    verdict.textContent = isWhole ? sentence : `Stopped. ${sentence}`;
    if (outcome.kind !== 'done') return;
    const { promptTokens, promptMs, decodedTokens, decodeMs } = outcome.result;
    root.dataset['tokens'] = String(decodedTokens + 1);
    const ofPrompt = paceOf(promptTokens, promptTokens, promptMs);
    pace.textContent = `${paceOf(decodedTokens + 1, decodedTokens, decodeMs)}; the prompt: ${ofPrompt}`;
  }

  function setState(state: State): void {
    const isRunning = state === 'loading' || state === 'writing';
    root.dataset['state'] = state;
    progress.classList.toggle('active', state === 'loading');
    stop.hidden = !isRunning;
    stop.disabled = job === null;
    start.disabled = isRunning;
    seed.disabled = isRunning;
    where.disabled = isRunning;
  }

  engine.onDevice((message) => {
    const reference = element('option', { value: 'reference' }, 'on the CPU reference');
    where.replaceChildren(reference);
    if (message.kind === 'device') {
      const { name, isSoftware } = message.device.info;
      where.prepend(element('option', { value: 'device' }, `on ${name}`));
      // Both run on the processor, and the reference is the faster of the two there.
      if (isSoftware) reference.selected = true;
    }
    if (root.dataset['state'] === 'idle') setState('idle');
  });
}

/** So many tokens, at the rate of those that were timed: the first came with the prompt. */
function paceOf(tokens: number, timedTokens: number, elapsedMs: number): string {
  return `${tokens} tokens, ${inPace((1000 * timedTokens) / elapsedMs)}`;
}
