// "Your device": what WebGPU found here, or why it found nothing and what to do about it.

import { element, type SectionParts } from '../dom.js';
import type { DeviceReport, Failure } from '../prover/messages.js';

/** What identifies a device, of all that a backend says of it. */
const DETAILS: readonly (readonly [name: string, label: string])[] = [
  ['vendor', 'Vendor'],
  ['architecture', 'Architecture'],
  ['driver', 'Driver'],
  ['dot', 'Dot product'],
];

/** The limits that decide which weights fit, and their words. */
const LIMITS: readonly (readonly [name: string, label: string, isBytes: boolean])[] = [
  ['maxBufferSize', 'Largest buffer', true],
  ['maxStorageBufferBindingSize', 'Largest binding', true],
  ['maxComputeWorkgroupStorageSize', 'Workgroup memory', true],
  ['maxComputeInvocationsPerWorkgroup', 'Threads per workgroup', false],
];

export function showDevice({ root, body }: SectionParts, { info, limits, features }: DeviceReport): void {
  root.dataset['state'] = 'available';
  root.dataset['software'] = String(info.isSoftware);
  const rows: (readonly [string, string])[] = [
    ...DETAILS.flatMap(([name, label]) => (info.details[name] ? [[label, info.details[name]] as const] : [])),
    ...LIMITS.flatMap(([name, label, isBytes]) => {
      const value = limits[name];
      return value === undefined ? [] : [[label, isBytes ? inBytes(value) : value.toLocaleString('en')] as const];
    }),
  ];
  body.replaceChildren(
    element('p', { class: 'device-name' }, info.name),
    ...(info.isSoftware
      ? [
          element(
            'p',
            { class: 'notice' },
            'This is a software adapter: the same shaders, run on the CPU. The bits count, the speed does not.',
          ),
        ]
      : []),
    element(
      'dl',
      {},
      ...rows.map(([term, value]) => element('div', {}, element('dt', {}, term), element('dd', {}, value))),
    ),
    element(
      'details',
      {},
      element('summary', {}, `${features.length} features`),
      element('ul', { class: 'features' }, ...features.map((feature) => element('li', {}, feature))),
    ),
  );
}

export function showNoDevice({ root, body }: SectionParts, failure: Failure): void {
  root.dataset['state'] = 'unavailable';
  body.replaceChildren(
    element('p', { class: 'device-name' }, 'No WebGPU here'),
    element('p', {}, failure.details ? `The reason: ${failure.details.got}. ${failure.details.fix}` : failure.message),
    element(
      'p',
      { class: 'quiet' },
      'WebGPU runs in current Chrome and Edge, in Safari 26, and in Firefox on Windows and macOS. samebits itself ',
      'also runs without it: in Node on CUDA, and anywhere on its CPU reference.',
    ),
  );
}

function inBytes(sizeBytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let value = sizeBytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toFixed(1))} ${units[unit]}`;
}
