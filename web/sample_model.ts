// The small real model that ships with the page, fetched when it is asked for.

import configUrl from '../tests/data/gemma4-kjv-6m/config.json?url';
import weightsUrl from '../tests/data/gemma4-kjv-6m/model.safetensors?url';

/** For people: what it is and what it costs. */
export const SAMPLE_MODEL = {
  name: 'gemma4-kjv-6m',
  words: 'a real Gemma 4 of 6.5 million parameters',
  size: '13 MB',
} as const;

/** @throws Error when the files cannot be fetched */
export async function fetchSampleModel(): Promise<readonly File[]> {
  return Promise.all([fetchFile(weightsUrl, 'model.safetensors'), fetchFile(configUrl, 'config.json')]);
}

async function fetchFile(url: string, name: string): Promise<File> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${name} could not be fetched: ${response.status} ${response.statusText}`);
  return new File([await response.blob()], name);
}
