// The page: one module a section, one worker that computes.

import { sectionParts } from './dom.js';
import { startProver } from './prover/prover.js';
import { showDevice, showNoDevice } from './sections/device.js';
import { mountProof } from './sections/proof.js';

const device = sectionParts('device');
const prover = startProver((reply) => {
  if (reply.kind === 'device') showDevice(device, reply.device);
  if (reply.kind === 'unavailable') showNoDevice(device, reply.failure);
  proof.handle(reply);
});
const proof = mountProof(sectionParts('proof'), (request) => prover.prove(request));
