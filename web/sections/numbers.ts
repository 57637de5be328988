// "Numbers behind it": recorded benchmarks as plots and tables, with the command that made them.

import { type BenchMeasurement, type Benchmark, type BenchReport, loadBenchmarks } from '../benchmarks.js';
import { element, type SectionParts } from '../dom.js';
import { inCount, inRate, inTime } from '../figures.js';

/** Plots are loaded after everything else; they are the largest part of the page. */
export async function mountNumbers({ root, body }: SectionParts): Promise<void> {
  const [benchmarks, { bandwidthPlot }] = await Promise.all([loadBenchmarks(), import('./numbers_plot.js')]);
  root.dataset['reports'] = String(benchmarks.reduce((sum, { reports }) => sum + reports.length, 0));
  if (benchmarks.length === 0) {
    body.replaceChildren(element('p', { class: 'quiet' }, 'This build ships no recorded benchmark.'));
    return;
  }
  body.replaceChildren();
  for (const benchmark of benchmarks) {
    const { file, date, samebits, command = 'samebits bench --json', reports } = benchmark;
    const source = `samebits ${samebits}, ${date.slice(0, 10)}, ${file}`;
    body.append(
      element('p', { class: 'quiet' }, source),
      element('pre', { tabindex: 0, 'aria-label': 'The command' }, `npx ${command} > ${file}`),
    );
    for (const report of reports) {
      const { root: plot, draw } = bandwidthPlot(report);
      body.append(
        element(
          'div',
          { class: 'report-figure' },
          heading(report, isCurrent(benchmark, report)),
          legend(),
          plot,
          table(report),
        ),
      );
      // Placing a plot and drawing it are the page's longest tasks; each gets one of its own.
      await new Promise((resolve) => setTimeout(resolve));
      draw();
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  root.dataset['state'] = 'drawn';
}

function isCurrent({ cudaSourcesSha256, shaderSourcesSha256 }: Benchmark, { backend }: BenchReport): boolean {
  return backend === 'cuda'
    ? cudaSourcesSha256 === __CUDA_SOURCES_SHA256__
    : shaderSourcesSha256 === __SHADER_SOURCES_SHA256__;
}

function heading({ backend, device, roofGBps }: BenchReport, ofCurrentKernels: boolean): HTMLElement {
  const words: Readonly<Record<string, string>> = { cuda: 'CUDA', webgpu: 'WebGPU', cpu: 'CPU reference' };
  return element(
    'h3',
    {},
    `${words[backend] ?? backend}, ${device.name}`,
    ' ',
    element('span', { class: 'quiet' }, `read roof ${inRate(roofGBps)}${ofCurrentKernels ? '' : ', earlier kernels'}`),
  );
}

function legend(): HTMLElement {
  return element(
    'p',
    { class: 'legend' },
    element('span', { class: 'before' }, '[n_groups, N]'),
    element('span', {}, '[N, n_groups]'),
    element('span', { class: 'roof' }, 'read roof'),
  );
}

function table({ measurements }: BenchReport): HTMLElement {
  const titles = ['Linear', 'N × K', 'M', '[n_groups, N]', '[N, n_groups]', 'of roof', 'ratio'];
  return element(
    'details',
    {},
    element('summary', {}, 'As a table'),
    element(
      'div',
      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Figures of the benchmark' },
      element(
        'table',
        {},
        element('thead', {}, element('tr', {}, ...titles.map((title) => element('th', { scope: 'col' }, title)))),
        element('tbody', {}, ...measurements.map(tableRow)),
      ),
    ),
  );
}

function tableRow({ label, n, k, m, timings }: BenchMeasurement): HTMLElement {
  const native = timings.find(({ layout }) => layout === 'native');
  const coalesced = timings.find(({ layout }) => layout === 'coalesced');
  const ratio = native && coalesced ? `${(native.medianUs / coalesced.medianUs).toFixed(2)}×` : '';
  const cells = [
    `${inCount(n)} × ${inCount(k)}`,
    String(m),
    native ? inTime(native.medianUs) : '',
    coalesced ? inTime(coalesced.medianUs) : '',
    coalesced ? `${coalesced.percentOfRoof.toFixed(0)} %` : '',
    ratio,
  ];
  return element('tr', {}, element('th', { scope: 'row' }, label), ...cells.map((cell) => element('td', {}, cell)));
}
