// "Try your own weights": opens dropped files, says what is in them, packs, multiplies and hands back, all on this machine.

import { LAYOUTS, type Layout } from '../../core/index.js';
import { element, type SectionParts } from '../dom.js';
import type { Engine, Job, Unfinished } from '../engine/engine.js';
import type { Failure, ListedTensor, PackEvent } from '../engine/messages.js';
import { inBytes } from '../figures.js';
import { fetchSampleModel, SAMPLE_MODEL } from '../sample_model.js';
import { refusal } from './refusal.js';
import { weightsList } from './weights_list.js';
import { weightsResult } from './weights_result.js';

const GROUP_SIZES = [16, 32, 64, 128, 256];

type State = 'idle' | 'opening' | 'open' | 'packing' | 'done' | 'refused' | 'cancelled';

export function mountWeights({ root, body }: SectionParts, engine: Engine): void {
  let job: Job<'open'> | Job<'pack'> | null = null;
  let files: readonly File[] = [];
  let url: string | null = null;

  const input = element('input', { type: 'file', class: 'unseen', id: 'weights-files', multiple: true });
  const sample = element('button', { type: 'button', class: 'secondary' }, `Use the small model, ${SAMPLE_MODEL.size}`);
  const zone = element(
    'div',
    { class: 'drop' },
    input,
    element('label', { for: 'weights-files', class: 'primary' }, 'Choose files'),
    element('span', { class: 'quiet' }, 'or drop them here: safetensors, GGUF, shards with their index'),
    sample,
  );
  const group = element(
    'select',
    { id: 'weights-group' },
    ...GROUP_SIZES.map((size) => element('option', { selected: size === 32 }, String(size))),
  );
  const cancel = element('button', { type: 'button', class: 'secondary', hidden: true }, 'Cancel');
  const progress = element('progress', { value: 0, max: 1, 'aria-label': 'Weights packed' });
  const status = element('p', { class: 'verdict', role: 'status', 'aria-live': 'polite' });
  const options = element(
    'div',
    { class: 'actions', hidden: true },
    element('label', { for: 'weights-group' }, 'Group size for weights that are not quantized yet'),
    group,
  );
  const contents = element('div', { class: 'contents' });
  const outcome = element('div', { class: 'outcome' });
  body.replaceChildren(
    zone,
    element('div', { class: 'actions' }, cancel),
    progress,
    status,
    outcome,
    options,
    contents,
  );

  input.addEventListener('change', () => {
    const chosen = [...(input.files ?? [])];
    input.value = '';
    if (chosen.length > 0) void open(chosen);
  });
  sample.addEventListener('click', async () => {
    setState('opening', `Fetching ${SAMPLE_MODEL.words}…`);
    try {
      await open(await fetchSampleModel());
    } catch (error) {
      setState('refused', error instanceof Error ? error.message : String(error));
    }
  });
  cancel.addEventListener('click', () => job?.cancel());
  zone.addEventListener('dragover', (event) => {
    event.preventDefault();
    zone.classList.add('over');
  });
  zone.addEventListener('dragleave', () => zone.classList.remove('over'));
  zone.addEventListener('drop', (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    const dropped = [...(event.dataTransfer?.files ?? [])];
    if (dropped.length > 0 && job === null) void open(dropped);
  });

  async function open(chosen: readonly File[], layout?: Layout): Promise<void> {
    files = chosen;
    contents.replaceChildren();
    outcome.replaceChildren();
    options.hidden = true;
    setState('opening', `Reading ${chosen.map(({ name }) => name).join(', ')}…`);
    const opening = engine.start('open', { files, ...(layout && { layout }) });
    job = opening;
    const end = await opening.outcome;
    job = null;
    if (end.kind !== 'done') {
      stopped(end);
      return;
    }
    const { name, format, sizeBytes, tensors, refusal: asIs } = end.result;
    const usable = tensors.filter(({ use }) => use === 'packed' || use === 'packable').length;
    const refused = tensors.filter(({ use }) => use === 'refused').length;
    const counts = `${usable} ${usable === 1 ? 'weight' : 'weights'} to use${refused > 0 ? `, ${refused} refused` : ''}`;
    setState('open', `${name}: ${inBytes(sizeBytes)}, ${format}; ${counts}.`);
    if (asIs) {
      outcome.replaceChildren(refusal(asIs, 'Kernels refuse this file as it is; packing below repacks it'));
    }
    options.hidden = !tensors.some(({ use, groupSize }) => use === 'packable' && groupSize === undefined);
    contents.replaceChildren(weightsList(end.result, (tensor) => void pack(tensor)));
  }

  async function pack({ name }: ListedTensor): Promise<void> {
    if (job !== null) return;
    outcome.replaceChildren();
    setState('packing', `Packing ${name}…`);
    const packing = engine.start('pack', { name, groupSize: Number(group.value) }, (event) => onPack(name, event));
    job = packing;
    cancel.disabled = false;
    const end = await packing.outcome;
    job = null;
    if (end.kind !== 'done') {
      stopped(end);
      return;
    }
    if (url !== null) URL.revokeObjectURL(url);
    outcome.replaceChildren(
      weightsResult(end.result, (file) => {
        url = URL.createObjectURL(file);
        return url;
      }),
    );
    setState('done', '');
  }

  function onPack(name: string, event: PackEvent): void {
    if (event.kind === 'multiplying') {
      status.textContent = `Multiplying by ${name}, here and on the reference…`;
      progress.removeAttribute('value');
      return;
    }
    progress.max = event.totalBytes;
    progress.value = event.doneBytes;
  }

  function stopped(end: Unfinished): void {
    if (end.kind === 'cancelled') {
      setState('cancelled', 'Cancelled.');
      return;
    }
    const { failure } = end;
    setState('refused', failure.code ? `Refused: ${failure.details?.rule}.` : failure.message);
    outcome.replaceChildren(refusal(failure, 'Refused'), ...layoutChoice(failure));
  }

  /** Where only the file's writer can know the layout, the reader may say it. */
  function layoutChoice({ code, details }: Failure): HTMLElement[] {
    if (code !== 'FILE_LAYOUT_AMBIGUOUS') return [];
    const choices = LAYOUTS.filter((layout) => details?.expected.split(' ').includes(layout));
    return [
      element(
        'div',
        { class: 'actions' },
        element('span', {}, 'Whoever wrote the file knows:'),
        ...choices.map((layout) => {
          const button = element('button', { type: 'button', class: 'secondary' }, layout);
          button.addEventListener('click', () => void open(files, layout));
          return button;
        }),
      ),
    ];
  }

  function setState(state: State, sentence: string): void {
    root.dataset['state'] = state;
    status.textContent = sentence;
    const isBusy = state === 'opening' || state === 'packing';
    progress.classList.toggle('active', isBusy);
    if (isBusy) progress.removeAttribute('value');
    cancel.hidden = state !== 'packing';
    cancel.disabled = true;
    for (const control of [input, sample]) control.disabled = isBusy;
    for (const button of contents.querySelectorAll('button')) button.disabled = isBusy;
  }
}
