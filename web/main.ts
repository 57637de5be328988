// The page: one module a section, one worker that computes.

import { sectionParts } from './dom.js';
import { startEngine } from './engine/engine.js';
import { showDeviceMessage } from './sections/device.js';
import { mountLayout } from './sections/layout.js';
import { mountNumbers } from './sections/numbers.js';
import { mountProof } from './sections/proof.js';
import { mountRace } from './sections/race.js';
import { mountVerses } from './sections/verses.js';
import { mountWeights } from './sections/weights.js';

const engine = startEngine();
const device = sectionParts('device');
engine.onDevice((message) => showDeviceMessage(device, message));

/** A task of its own for each, so that none holds up a tap or a scroll. */
const mounts = [
  () => mountProof(sectionParts('proof'), engine),
  () => mountVerses(sectionParts('verses'), engine),
  () => mountLayout(sectionParts('layout')),
  () => mountRace(sectionParts('race'), engine),
  () => mountWeights(sectionParts('weights'), engine),
];
for (const mount of mounts) {
  await new Promise((resolve) => setTimeout(resolve));
  mount();
}

const numbers = sectionParts('numbers');
try {
  await mountNumbers(numbers);
} catch (error) {
  numbers.root.dataset['state'] = 'failed';
  numbers.body.textContent = `The recorded figures could not be loaded: ${error instanceof Error ? error.message : error}`;
}
