// The --backend option that several verbs share.

import { InvalidArgumentError, Option } from 'commander';
import type { BackendName } from '../core/index.js';
import { BACKEND_ORDER } from './open_backend.js';

/** `--backend NAME...`: given, each named backend must be there; left out, whatever is available is used. */
export function backendOption(): Option {
  return new Option('--backend <name...>', 'use only these backends; each must be available').choices(BACKEND_ORDER);
}

/** The names that the option holds; all of them without it. */
export function selectedBackends(names: readonly string[] | undefined): readonly BackendName[] {
  return names === undefined ? BACKEND_ORDER : names.map(parseBackendName);
}

/** @throws InvalidArgumentError for a name that is not a backend */
export function parseBackendName(name: string): BackendName {
  const known = BACKEND_ORDER.find((candidate) => candidate === name);
  if (known) return known;
  throw new InvalidArgumentError(`Expected one of ${BACKEND_ORDER.join(', ')}.`);
}
