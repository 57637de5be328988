// "Why it is fast": one warp reading scales in either layout, with the shape in the reader's hands.

import type { ScaleLayout } from '../../core/index.js';
import { rowScaleTraffic, type WarpRead, warpScaleRead } from '../../core/layout_traffic.js';
import { weightShape } from '../../core/limits.js';
import { element, type SectionParts } from '../dom.js';
import { inCount } from '../figures.js';
import { layoutPicture } from './layout_picture.js';

const N_STOPS = [64, 256, 1024, 2048, 4096, 5376, 8192, 14_336, 16_384, 21_504, 43_008, 128_256, 262_144];
/** Every group size divides each. */
const K_STOPS = [256, 1024, 2048, 4096, 5376, 8192, 14_336, 21_504];
const GROUP_STOPS = [16, 32, 64, 128, 256];
const ROW_STOPS = Array.from({ length: 64 }, (_, row) => row);
const LANE_STOPS = Array.from({ length: 32 }, (_, lane) => lane);

/** Rows of lines in either picture, which keeps its size with fewer. */
const MIN_ROWS = 32;

const LAYOUTS: readonly (readonly [layout: ScaleLayout, title: string, words: string])[] = [
  ['native', '[n_groups, N]', 'the layout of the checkpoint'],
  ['coalesced', '[N, n_groups]', 'the layout of samebits'],
];

export function mountLayout({ root, body }: SectionParts): void {
  const n = slider('N', 'outputs', N_STOPS, 21_504, draw);
  const k = slider('K', 'inputs', K_STOPS, 5376, draw);
  const group = slider('Group size', '', GROUP_STOPS, 32, draw);
  const row = slider('Row', 'of the weight', ROW_STOPS, 0, draw);
  const lane = slider('Lane', 'looked at', LANE_STOPS, 9, draw);
  const panels = LAYOUTS.map(([layout, title, words]) => {
    const picture = element('div', { class: 'picture' });
    const count = element('p', { class: 'count' });
    const caption = element('p', { class: 'quiet lane-words' });
    const head = element('h3', {}, title, ' ', element('span', { class: 'quiet' }, words));
    const figure = element('figure', { 'data-layout': layout }, head, count, picture, caption);
    return { layout, title, picture, count, caption, figure };
  });
  const summary = element('p', { class: 'summary', role: 'status' });
  body.replaceChildren(
    element('div', { class: 'sliders' }, n.root, k.root, group.root, row.root, lane.root),
    element('div', { class: 'panels' }, ...panels.map(({ figure }) => figure)),
    summary,
  );
  draw();

  function draw(): void {
    const shape = weightShape(n.value(), k.value(), group.value());
    const at = row.value();
    const read = {
      native: warpScaleRead(shape, 'native', at, 0),
      coalesced: warpScaleRead(shape, 'coalesced', at, 0),
    };
    const rows = Math.max(MIN_ROWS, read.native.lines.length, read.coalesced.lines.length);
    for (const { layout, title, picture, count, caption } of panels) {
      const { lines: fetched, fetchedBytes, neededBytes } = read[layout];
      const lines = `${fetched.length} cache ${fetched.length === 1 ? 'line' : 'lines'}`;
      const bytes = `${inCount(fetchedBytes)} bytes fetched for ${neededBytes} used`;
      root.dataset[`${layout}Lines`] = String(fetched.length);
      const label = `${title}: 32 lanes, ${lines}, ${bytes}`;
      picture.replaceChildren(layoutPicture(read[layout], lane.value(), rows, label));
      count.replaceChildren(element('strong', {}, lines), element('span', {}, bytes));
      caption.textContent = laneWords(read[layout], lane.value());
    }
    const [native, coalesced] = [rowScaleTraffic(shape, 'native', at), rowScaleTraffic(shape, 'coalesced', at)];
    summary.textContent =
      `Along all ${inCount(shape.k)} inputs of this row, its ${inCount(shape.nGroups)} scales take ` +
      `${inCount(native.lines)} lines (${inCount(native.fetchedBytes)} bytes) in the one layout and ` +
      `${inCount(coalesced.lines)} (${inCount(coalesced.fetchedBytes)} bytes) in the other. The zero points cost the same again.`;
  }
}

function laneWords({ reads }: WarpRead, lane: number): string {
  const own = reads.filter((read) => read.lane === lane);
  if (own.length === 0) return `Lane ${lane} has nothing left to read in this row.`;
  const places = own.map(({ group, byteOffset, line }) => {
    return `group ${group} at byte ${inCount(byteOffset)}, in line ${inCount(line)}`;
  });
  return `Lane ${lane} reads ${places.join(' and ')}.`;
}

/** A range over a list of values. */
function slider(name: string, words: string, stops: readonly number[], initial: number, onInput: () => void) {
  const input = element('input', { type: 'range', min: 0, max: stops.length - 1, value: stops.indexOf(initial) });
  const shown = element('span', { class: 'value' });
  const value = () => stops[Number(input.value)]!;
  const show = () => {
    shown.textContent = inCount(value());
    input.setAttribute('aria-valuetext', inCount(value()));
  };
  input.addEventListener('input', () => {
    show();
    onInput();
  });
  show();
  const label = element('span', { class: 'slider-name' }, name, ' ', element('span', { class: 'quiet' }, words));
  return { root: element('label', { class: 'slider' }, label, shown, input), value };
}
