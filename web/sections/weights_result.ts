// What came of one weight: whether the bits agree, what packing and int8 activations cost, and the packed file.

import { formatDifference } from '../../core/index.js';
import { element } from '../dom.js';
import type { PackResult } from '../engine/messages.js';
import { inBytes, inCount, inTime } from '../figures.js';

/** @param ownUrl makes an address for the packed file; its owner revokes it */
export function weightsResult(result: PackResult, ownUrl: (file: Blob) => string): HTMLElement {
  const { name, n, k, groupSize, form, device, products, change, sourceBytes, packedBytes, file, elapsedMs } = result;
  const different = products.find(({ difference }) => difference);
  const rows = products.map(({ m }) => m).join(' and ');
  const verdict = different?.difference
    ? `${device} gave other bits than the reference: ${different.difference.outputType} ${formatDifference(different.difference)}.`
    : device === undefined
      ? `The CPU reference multiplied it for M = ${rows}; there is no GPU here to compare with.`
      : `${device} and the CPU reference agree on every bit, for M = ${rows}.`;
  const facts: (readonly [string, string])[] = [
    ['Shape', `${inCount(n)} × ${inCount(k)}, groups of ${groupSize}`],
    ['Form', form],
    ['Packed size', change ? `${inBytes(packedBytes)}, from ${inBytes(sourceBytes)}` : inBytes(packedBytes)],
  ];
  if (change) {
    facts.push(['Packed in', inTime(elapsedMs * 1000)]);
    facts.push([
      'Change of the weights',
      change.isLossless ? 'none, bit for bit' : `${percent(change.relativeRms)} relative RMS`,
    ]);
  }
  const worst = Math.max(...products.map(({ activationError }) => activationError));
  facts.push(['Cost of int8 activations', `${percent(worst)} of the output’s norm`]);
  return element(
    'article',
    {
      class: 'card',
      'data-state': different ? 'different' : 'equal',
      'data-sha256': products.map(({ sha256 }) => sha256).join(' '),
    },
    element('h3', {}, name),
    element('p', { class: 'verdict' }, verdict),
    element(
      'dl',
      { class: 'facts' },
      ...facts.map(([term, value]) => element('div', {}, element('dt', {}, term), element('dd', {}, value))),
    ),
    ...(file ? [download(name, file, ownUrl(file))] : []),
  );
}

function download(name: string, file: Blob, url: string): HTMLElement {
  const fileName = `${name.replace(/[^\w.-]+/g, '_').slice(-120)}.samebits.safetensors`;
  return element(
    'p',
    {},
    element(
      'a',
      { href: url, download: fileName, class: 'download' },
      `Download the packed file, ${inBytes(file.size)}`,
    ),
  );
}

function percent(share: number): string {
  return `${Number((100 * share).toPrecision(2))} %`;
}
