// The page: one module a section, one worker that computes.

import { sectionParts } from './dom.js';
import { startEngine } from './engine/engine.js';
import { showDeviceMessage } from './sections/device.js';
import { mountLayout } from './sections/layout.js';
import { mountNumbers } from './sections/numbers.js';
import { mountProof } from './sections/proof.js';
import { mountRace } from './sections/race.js';
import { mountWeights } from './sections/weights.js';

const device = sectionParts('device');
const engine = startEngine((message) => {
  showDeviceMessage(device, message);
  proof.onDevice(message);
  race.onDevice(message);
});
const proof = mountProof(sectionParts('proof'), engine);
mountLayout(sectionParts('layout'));
const race = mountRace(sectionParts('race'), engine);
mountWeights(sectionParts('weights'), engine);

const numbers = sectionParts('numbers');
mountNumbers(numbers).catch((error: unknown) => {
  numbers.root.dataset['state'] = 'failed';
  numbers.body.textContent = `The recorded figures could not be loaded: ${error instanceof Error ? error.message : error}`;
});
