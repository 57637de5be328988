// The environment that the Vulkan loader reads: changed for one call, then as it was.

import { afterEach, expect, test, vi } from 'vitest';
import { findSoftwareDriver, withDriver } from '../../node/software_vulkan.js';

const NAMES = ['VK_ADD_DRIVER_FILES', 'VK_ICD_FILENAMES', 'XDG_RUNTIME_DIR'] as const;
const environment = () => Object.fromEntries(NAMES.map((name) => [name, process.env[name]]));

afterEach(() => {
  vi.unstubAllEnvs();
});

test.for([
  ['besides', 'VK_ADD_DRIVER_FILES'],
  ['instead', 'VK_ICD_FILENAMES'],
] as const)('a driver %s the others is named in %s, and only meanwhile', ([role, name]) => {
  vi.stubEnv('XDG_RUNTIME_DIR', undefined);
  const before = environment();
  const during = withDriver('/some/icd.json', role, environment);
  expect(during[name]).toBe('/some/icd.json');
  expect(during['XDG_RUNTIME_DIR']).toBeTruthy();
  expect(environment()).toEqual(before);
});

test('what was set is set again, even when the call throws', () => {
  vi.stubEnv('VK_ICD_FILENAMES', '/mine.json');
  vi.stubEnv('XDG_RUNTIME_DIR', '/run/me');
  const before = environment();
  expect(() =>
    withDriver('/some/icd.json', 'instead', () => {
      expect(environment()).toEqual({ ...before, VK_ICD_FILENAMES: '/some/icd.json' });
      throw new RangeError('thrown inside');
    }),
  ).toThrow('thrown inside');
  expect(environment()).toEqual(before);
});

test('without a driver nothing is named', () => {
  vi.stubEnv('XDG_RUNTIME_DIR', '/run/me');
  const before = environment();
  expect(withDriver(null, 'besides', environment)).toEqual(before);
});

test('a named manifest that is not there is an error, not a search', () => {
  vi.stubEnv('SAMEBITS_VULKAN_ICD', '/nowhere/icd.json');
  expect(() => findSoftwareDriver()).toThrow(expect.objectContaining({ code: 'BACKEND_UNAVAILABLE' }));
});

test('a named manifest is taken', () => {
  vi.stubEnv('SAMEBITS_VULKAN_ICD', import.meta.filename);
  expect(findSoftwareDriver()).toBe(import.meta.filename);
});
