// Bandwidth by linear as a bar plot: both layouts side by side under the device's read roof.

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { BenchReport } from '../benchmarks.js';
import { element } from '../dom.js';
import { inCount } from '../figures.js';

const HEIGHT = 260;
const FONT = '12px system-ui, sans-serif';

/** The plot's element, and what draws in it once it is in the page and has a width. */
export function bandwidthPlot({ backend, device, roofGBps, measurements }: BenchReport): {
  readonly root: HTMLElement;
  draw(): void;
} {
  const decoding = measurements.filter(({ m }) => m === 1);
  const rates = (layout: string) =>
    decoding.map(({ timings }) => timings.find((timing) => timing.layout === layout)?.bandwidthGBps ?? null);
  const label = `Bandwidth of ${backend} on ${device.name} by linear: ${decoding
    .map(({ label: name }, i) => `${name} ${spoken(rates('native')[i])} before, ${spoken(rates('coalesced')[i])} now`)
    .join('; ')}. Roof ${spoken(roofGBps)}.`;
  const root = element('div', { class: 'plot', role: 'img', 'aria-label': label });

  function draw(): void {
    const bars = uPlot.paths.bars;
    if (!bars) return;
    const positions = decoding.map((_, i) => i);
    const series = (name: string, colour: string, align: 1 | -1): uPlot.Series => ({
      label: name,
      fill: () => colourOf(colour),
      stroke: () => colourOf(colour),
      width: 0,
      paths: bars({ size: [0.36, 56], align, gap: 2 }),
      points: { show: false },
    });
    const plot = new uPlot(
      {
        width: root.clientWidth,
        height: HEIGHT,
        cursor: { show: false },
        legend: { show: false },
        scales: {
          x: { time: false, range: [-0.6, decoding.length - 0.4] },
          y: { range: [0, Math.ceil((roofGBps * 1.05) / 500) * 500] },
        },
        axes: [
          {
            splits: () => positions,
            values: (_, splits) => splits.map((i) => decoding[i]?.label ?? ''),
            stroke: () => colourOf('--quiet'),
            font: FONT,
            grid: { show: false },
            ticks: { show: false },
          },
          {
            label: 'GB/s',
            labelFont: FONT,
            size: 56,
            stroke: () => colourOf('--quiet'),
            font: FONT,
            grid: { stroke: () => colourOf('--line'), width: 1 },
            ticks: { show: false },
          },
        ],
        series: [
          {},
          series('[n_groups, N]', '--before', -1),
          series('[N, n_groups]', '--accent', 1),
          {
            label: 'read roof',
            stroke: () => colourOf('--ink'),
            width: 1,
            dash: [4, 4],
            points: { show: false },
          },
        ],
      },
      [positions, rates('native'), rates('coalesced'), positions.map(() => roofGBps)],
      root,
    );
    new ResizeObserver(() => {
      if (root.clientWidth !== plot.width) plot.setSize({ width: root.clientWidth, height: HEIGHT });
    }).observe(root);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plot.redraw(true, true));
  }

  return { root, draw };
}

function spoken(rate: number | null | undefined): string {
  return rate === null || rate === undefined ? 'not measured' : `${inCount(Math.round(rate))} GB/s`;
}

function colourOf(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}
