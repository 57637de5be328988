// One warp's read of scales as a picture: the lanes, the cache lines they touch, and the scale that each takes in them.

import { CACHE_LINE_BYTES, SCALE_BYTES, WARP_LANES, type WarpRead } from '../../core/layout_traffic.js';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 384;
const LANE = WIDTH / WARP_LANES;
const LANE_INSET = 1.5;
const LINES_TOP = 64;
const LINES_HEIGHT = 320;
const MAX_LINE_HEIGHT = 10;
const SLOTS = CACHE_LINE_BYTES / SCALE_BYTES;
const SLOT = WIDTH / SLOTS;

/**
 * @param current the lane that is looked at
 * @param rows the lines that a picture has room for, so that two of them compare: those that are not fetched are outlines
 */
export function layoutPicture({ reads, lines }: WarpRead, current: number, rows: number, label: string): SVGSVGElement {
  const svg = make('svg', { viewBox: `0 0 ${WIDTH} ${LINES_TOP + LINES_HEIGHT}`, role: 'img', 'aria-label': label });
  const pitch = LINES_HEIGHT / rows;
  const height = Math.min(MAX_LINE_HEIGHT, pitch * 0.72);
  const top = (line: number) => LINES_TOP + lines.indexOf(line) * pitch;
  const slotX = (byteOffset: number) => ((byteOffset % CACHE_LINE_BYTES) / SCALE_BYTES) * SLOT;

  const bars = lines.map((line) => rectangle(0, top(line), WIDTH, height));
  const spared = Array.from({ length: rows - lines.length }, (_, i) =>
    rectangle(0.5, LINES_TOP + (lines.length + i) * pitch, WIDTH - 1, height),
  );
  const taken = reads.map(({ byteOffset, line }) => rectangle(slotX(byteOffset), top(line), SLOT, height));
  const lanes = Array.from({ length: WARP_LANES }, (_, lane) => laneAt(lane));
  const wires = reads.filter(({ lane }) => lane !== current).map((read) => wire(read.lane, read.byteOffset, read.line));
  const own = reads.filter(({ lane }) => lane === current);
  svg.append(
    path(spared, 'spared'),
    path(bars, 'line'),
    path(wires, 'wire'),
    path(taken, 'taken'),
    path(lanes, 'lane'),
    path([laneAt(current)], 'lane current'),
    path(
      own.map(({ lane, byteOffset, line }) => wire(lane, byteOffset, line)),
      'wire current',
    ),
    path(
      own.map(({ byteOffset, line }) => rectangle(slotX(byteOffset) - 1, top(line) - 1, SLOT + 2, height + 2)),
      'taken current',
    ),
  );
  return svg;

  function wire(lane: number, byteOffset: number, line: number): string {
    const [fromX, fromY] = [(lane + 0.5) * LANE, LANE];
    const [toX, toY] = [slotX(byteOffset) + SLOT / 2, top(line)];
    const bend = Math.min(LINES_TOP - LANE, toY - fromY) / 2;
    return `M${round(fromX)} ${round(fromY)}C${round(fromX)} ${round(fromY + bend)} ${round(toX)} ${round(LINES_TOP - bend)} ${round(toX)} ${round(toY)}`;
  }
}

function laneAt(lane: number): string {
  return rectangle(lane * LANE + LANE_INSET, 0, LANE - 2 * LANE_INSET, LANE - LANE_INSET);
}

function rectangle(x: number, y: number, width: number, height: number): string {
  return `M${round(x)} ${round(y)}h${round(width)}v${round(height)}h${round(-width)}z`;
}

function round(value: number): number {
  return Number(value.toFixed(2));
}

function path(parts: readonly string[], name: string): SVGElement {
  return make('path', { class: name, d: parts.join('') });
}

function make<K extends keyof SVGElementTagNameMap>(tag: K, attributes: Readonly<Record<string, string>>) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
