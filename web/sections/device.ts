// "Your device": what WebGPU found here and what follows from it, or why it found nothing and what to do about it.

import { element, type SectionParts } from '../dom.js';
import type { ColdStart, DeviceMessage, DeviceReport, Failure } from '../engine/messages.js';
import { inBytes, inCount } from '../figures.js';
import { describeBrowser } from '../webgpu_advice.js';

/** What identifies a device, of all that a backend says of it. */
const DETAILS: readonly (readonly [name: string, label: string])[] = [
  ['vendor', 'Vendor'],
  ['architecture', 'Architecture'],
  ['device', 'Model'],
  ['driver', 'Driver'],
];

/** The limits that decide which weights fit, and their words. */
const LIMITS: readonly (readonly [name: string, label: string, isBytes: boolean])[] = [
  ['maxBufferSize', 'Largest buffer', true],
  ['maxStorageBufferBindingSize', 'Largest binding', true],
  ['maxComputeWorkgroupStorageSize', 'Workgroup memory', true],
  ['maxComputeInvocationsPerWorkgroup', 'Threads per workgroup', false],
];

export function showDeviceMessage(section: SectionParts, message: DeviceMessage): void {
  if (message.kind === 'device') showDevice(section, message.device);
  else showNoDevice(section, message.failure);
}

function showDevice({ root, body }: SectionParts, report: DeviceReport): void {
  const { info, limits, features, languageFeatures, coldStart } = report;
  root.dataset['state'] = 'available';
  root.dataset['software'] = String(info.isSoftware);
  const identity = DETAILS.flatMap(([name, label]) => {
    const value = info.details[name];
    return value && value !== info.name ? [row(label, value)] : [];
  });
  const bounds = LIMITS.flatMap(([name, label, isBytes]) => {
    const value = limits[name];
    return value === undefined ? [] : [row(label, isBytes ? inBytes(value) : inCount(value))];
  });
  const everything = [...features, ...languageFeatures];
  body.replaceChildren(
    element('p', { class: 'device-name' }, info.name),
    ...(info.isSoftware ? [notice()] : []),
    element('dl', { class: 'facts' }, ...identity, ...bounds),
    element('ul', { class: 'choices' }, firstResult(coldStart), ...choices(info.details, features)),
    element(
      'details',
      {},
      element('summary', {}, `All ${everything.length} features that the browser names`),
      element('ul', { class: 'features' }, ...everything.map((feature) => element('li', {}, feature))),
    ),
  );
}

function notice(): HTMLElement {
  const text = 'A software adapter: the same shaders, run on the CPU. The bits count, the speed does not.';
  return element('p', { class: 'notice' }, text);
}

/** What was chosen here, and why, as far as the backend says. */
function choices(details: Readonly<Record<string, string>>, features: readonly string[]): HTMLElement[] {
  const { dot = 'unknown', reduction, variant } = details;
  const isPacked = dot.startsWith('packed');
  const hasTimestamps = features.includes('timestamp-query');
  return [
    choice(
      isPacked ? 'Packed dot product' : 'Unpacked dot product',
      isPacked
        ? 'Four int8 products in one instruction, dot4I8Packed: this browser’s WGSL has packed_4x8_integer_dot_product.'
        : `Four int8 products in plain i32 arithmetic, ${dot}. The bits are the same.`,
    ),
    ...(reduction ? [choice('Sums of a row', `By ${reduction}.`)] : []),
    ...(variant ? [choice('Why this kernel', `${variant}.`)] : []),
    choice(
      hasTimestamps ? 'Timed by the GPU' : 'Timed by the clock',
      hasTimestamps
        ? 'timestamp-query is here, so that the race counts time on the device alone.'
        : 'There is no timestamp-query, so that the race counts from submission to completion, in passes long enough for that.',
    ),
    choice(
      'Any order of sums',
      'Only integers are added, so that no subgroup size, no shape of a workgroup and no order can change a bit.',
    ),
  ];
}

/** What a cold start took here. */
function firstResult({ deviceMs, kernelsMs, firstMatvecMs }: ColdStart): HTMLElement {
  const inMs = (elapsedMs: number) => `${inCount(Math.round(elapsedMs))} ms`;
  return choice(
    `First result after ${inMs(deviceMs + kernelsMs + firstMatvecMs)}`,
    `From a cold start: ${inMs(deviceMs)} for the adapter and its device, ${inMs(kernelsMs)} for the kernels, ` +
      `${inMs(firstMatvecMs)} for the first matvec.`,
  );
}

function choice(title: string, reason: string): HTMLElement {
  return element('li', {}, element('strong', {}, title), ' ', reason);
}

function showNoDevice({ root, body }: SectionParts, failure: Failure): void {
  root.dataset['state'] = 'unavailable';
  const { name, advice } = describeBrowser(navigator.userAgent, navigator.maxTouchPoints);
  const reason = failure.details?.got ?? failure.message;
  body.replaceChildren(
    element('p', { class: 'device-name' }, 'No WebGPU here'),
    element('p', {}, `The reason, in ${name}: ${reason}.`),
    element('p', {}, globalThis.isSecureContext ? advice : (failure.details?.fix ?? advice)),
    element(
      'p',
      { class: 'notice' },
      'The rest of this page works without it: the CPU reference runs in your browser, and its bits are compared with ',
      'those that an NVIDIA GPU gave.',
    ),
  );
}

function row(term: string, value: string): HTMLElement {
  return element('div', {}, element('dt', {}, term), element('dd', {}, value));
}
