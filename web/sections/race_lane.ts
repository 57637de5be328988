// One shape of the race: a bar for each contender that fills in as its figure comes, and the recorded bars for scale.

import { type Benchmark, type BenchTiming, recordedTimings } from '../benchmarks.js';
import { element } from '../dom.js';
import { CONTENDERS, type Contender, type Failure, type RaceShape, type RaceTiming } from '../engine/messages.js';
import { inBytes, inCount, inRate, inTime } from '../figures.js';

const NAMES: Readonly<Record<Contender, string>> = {
  native: '[n_groups, N]',
  coalesced: '[N, n_groups]',
  dequantized: 'f32, dequantized',
};
const STAGES = { upload: 'copying…', check: 'checking the bits…', time: 'timing…' } as const;

interface Bar {
  readonly root: HTMLElement;
  readonly fill: HTMLElement;
  readonly figure: HTMLElement;
}

export class RaceLane {
  readonly root: HTMLElement;
  readonly #bars = new Map<Contender, Bar>();
  readonly #timings = new Map<Contender, RaceTiming>();
  readonly #recorded: readonly { readonly bar: Bar; readonly us: number }[];
  readonly #note = element('p', { class: 'quiet lane-note' });

  constructor(
    private readonly shape: RaceShape,
    benchmarks: readonly Benchmark[],
    /** Whether a ratio of times means anything: on a software adapter it does not. */
    private readonly isHardware: boolean,
  ) {
    const { label, n, k, groupSize } = shape;
    for (const contender of CONTENDERS) this.#bars.set(contender, bar(NAMES[contender], contender));
    const recorded = recordedTimings(benchmarks, shape);
    this.#recorded = (recorded?.timings ?? []).map((timing) => recordedBar(recorded?.device ?? '', timing));
    this.root = element(
      'article',
      { class: 'lane' },
      element(
        'h3',
        {},
        label,
        ' ',
        element('span', { class: 'quiet' }, `${inCount(n)} × ${inCount(k)}, groups of ${groupSize}`),
      ),
      element(
        'ul',
        { class: 'bars' },
        ...[...this.#bars.values()].map(({ root }) => root),
        ...this.#recorded.map(({ bar }) => bar.root),
      ),
      this.#note,
    );
  }

  /** The shape as it is raced; n may have been cut. */
  begin(n: number): void {
    if (n === this.shape.n) return;
    this.#note.textContent = `Cut to ${inCount(n)} rows, to fit the memory or the pace of this device; recorded bars are of the whole.`;
  }

  stage(contender: Contender, stage: keyof typeof STAGES): void {
    this.#show(contender, 'running', STAGES[stage]);
  }

  refuse(contender: Contender, { details, message }: Failure): void {
    this.#show(contender, 'refused', details ? `not timed: ${details.got}` : `not timed: ${message}`);
  }

  time(timing: RaceTiming): void {
    const { contender, medianUs, bandwidthGBps, movedBytes } = timing;
    this.#timings.set(contender, timing);
    this.#show(contender, 'done', `${inTime(medianUs)} · ${inRate(bandwidthGBps)}`);
    const { root } = this.#bars.get(contender)!;
    root.dataset['us'] = String(medianUs);
    root.title = `${inBytes(movedBytes)} moved; ${inTime(timing.minUs)} to ${inTime(timing.maxUs)}`;
    this.#rescale();
    const [native, coalesced] = [this.#timings.get('native'), this.#timings.get('coalesced')];
    if (!this.isHardware || contender !== 'coalesced' || !native || !coalesced) return;
    const ratio = (native.medianUs / coalesced.medianUs).toFixed(2);
    this.root.querySelector('h3')?.append(element('strong', { class: 'ratio' }, `${ratio}×`));
  }

  /** What was not finished is pending again. */
  stop(): void {
    for (const contender of CONTENDERS) {
      if (this.#bars.get(contender)?.root.dataset['state'] === 'running') this.#show(contender, 'pending', '–');
    }
  }

  #show(contender: Contender, state: 'pending' | 'running' | 'refused' | 'done', figure: string): void {
    const bar = this.#bars.get(contender)!;
    bar.root.dataset['state'] = state;
    bar.figure.textContent = figure;
  }

  #rescale(): void {
    const longest = Math.max(
      ...[...this.#timings.values()].map(({ medianUs }) => medianUs),
      ...this.#recorded.map(({ us }) => us),
    );
    for (const [contender, { medianUs }] of this.#timings) setLength(this.#bars.get(contender)!, medianUs / longest);
    for (const { bar, us } of this.#recorded) setLength(bar, us / longest);
  }
}

function bar(name: string, kind: string): Bar {
  const fill = element('span', { class: 'fill' });
  const figure = element('span', { class: 'figure' }, '–');
  const track = element('span', { class: 'track', 'aria-hidden': 'true' }, fill);
  const root = element(
    'li',
    { 'data-kind': kind, 'data-state': 'pending' },
    element('span', { class: 'name' }, name),
    track,
    figure,
  );
  return { root, fill, figure };
}

function recordedBar(device: string, { layout, medianUs, bandwidthGBps }: BenchTiming) {
  const made = bar(`${device}, ${layout === 'native' ? NAMES.native : NAMES.coalesced}`, `recorded-${layout}`);
  made.root.dataset['state'] = 'recorded';
  made.figure.textContent = `${inTime(medianUs)} · ${inRate(bandwidthGBps)}`;
  return { bar: made, us: medianUs };
}

function setLength({ fill }: Bar, share: number): void {
  fill.style.width = `${Math.max(0.2, 100 * share)}%`;
}
