// "Race": both layouts and the f32 way on this GPU, over shapes that the reader picks.

import { type Benchmark, loadBenchmarks } from '../benchmarks.js';
import { element, type SectionParts } from '../dom.js';
import type { Engine, Job } from '../engine/engine.js';
import { CONTENDERS, type RaceEvent, type RaceShape } from '../engine/messages.js';
import { RaceLane } from './race_lane.js';
import { PRESETS } from './race_shapes.js';

type State = 'idle' | 'running' | 'finished' | 'failed' | 'cancelled' | 'unavailable';

export function mountRace({ root, body }: SectionParts, engine: Engine): void {
  let job: Job<'race'> | null = null;
  let lanes: readonly RaceLane[] = [];
  let isHardware = false;

  const model = element('select', { id: 'race-model' }, ...PRESETS.map(({ name }) => element('option', {}, name)));
  const picks = element('div', { class: 'picks' });
  const start = element('button', { type: 'button', class: 'primary', disabled: true }, 'Start the race');
  const cancel = element('button', { type: 'button', class: 'secondary', hidden: true }, 'Cancel');
  const progress = element('progress', { value: 0, max: 1, 'aria-label': 'Contenders timed' });
  const status = element('p', { class: 'verdict', role: 'status', 'aria-live': 'polite' });
  const track = element('div', { class: 'lanes' });
  body.replaceChildren(
    element(
      'fieldset',
      {},
      element('legend', {}, 'Linears of'),
      element('label', { for: 'race-model', class: 'unseen' }, 'Model'),
      model,
      picks,
    ),
    element('div', { class: 'actions' }, start, cancel),
    progress,
    status,
    track,
  );
  model.addEventListener('change', showPicks);
  start.addEventListener('click', run);
  cancel.addEventListener('click', () => job?.cancel());
  showPicks();

  function showPicks(): void {
    const { shapes } = PRESETS[model.selectedIndex] ?? PRESETS[0]!;
    picks.replaceChildren(
      ...shapes.map(({ label }) => {
        const box = element('input', { type: 'checkbox', checked: label !== 'head' });
        return element('label', { class: 'pick' }, box, label);
      }),
    );
  }

  function pickedShapes(): RaceShape[] {
    const { shapes } = PRESETS[model.selectedIndex] ?? PRESETS[0]!;
    const boxes = [...picks.querySelectorAll('input')];
    return shapes.filter((_, index) => boxes[index]?.checked);
  }

  async function run(): Promise<void> {
    const shapes = pickedShapes();
    if (shapes.length === 0) {
      status.textContent = 'Pick a linear first.';
      return;
    }
    setState('running');
    status.textContent = 'Every output is checked before anything is timed.';
    const benchmarks = await recordedBenchmarks();
    lanes = shapes.map((shape) => new RaceLane(shape, benchmarks, isHardware));
    track.replaceChildren(...lanes.map(({ root: lane }) => lane));
    progress.max = shapes.length * CONTENDERS.length;
    progress.value = 0;
    job = engine.start('race', shapes, onEvent);
    cancel.disabled = false;
    const outcome = await job.outcome;
    job = null;
    for (const lane of lanes) lane.stop();
    if (outcome.kind === 'done') {
      setState('finished');
      status.textContent = isHardware
        ? 'Shorter is faster. Each figure is the median of passes long enough for the clock that browsers give.'
        : 'Shorter is faster, but this is a software adapter: the figures say nothing about a GPU.';
    } else if (outcome.kind === 'cancelled') {
      setState('cancelled');
      status.textContent = 'Cancelled.';
    } else {
      setState('failed');
      status.textContent = `The race ended early. ${outcome.failure.message}`;
    }
  }

  function onEvent(event: RaceEvent): void {
    const lane = lanes[event.index];
    if (!lane) return;
    switch (event.kind) {
      case 'shape':
        lane.begin(event.n);
        break;
      case 'stage':
        lane.stage(event.contender, event.stage);
        break;
      case 'timing':
        progress.value += 1;
        lane.time(event.timing);
        break;
      case 'refused':
        progress.value += 1;
        lane.refuse(event.contender, event.failure);
        break;
    }
  }

  function setState(state: State): void {
    const isRunning = state === 'running';
    root.dataset['state'] = state;
    progress.classList.toggle('active', isRunning);
    cancel.hidden = !isRunning;
    cancel.disabled = true;
    start.disabled = isRunning || state === 'unavailable';
    model.disabled = isRunning;
  }

  engine.onDevice((message) => {
    isHardware = message.kind === 'device' && !message.device.info.isSoftware;
    if (root.dataset['state'] === 'running') return;
    setState(message.kind === 'device' ? 'idle' : 'unavailable');
    status.textContent =
      message.kind === 'device' ? '' : 'A race needs a GPU, and this browser gave the page none. See Your device.';
  });
}

/** Bars for scale are no reason not to race: without them there are none. */
async function recordedBenchmarks(): Promise<readonly Benchmark[]> {
  try {
    return await loadBenchmarks();
  } catch {
    return [];
  }
}
