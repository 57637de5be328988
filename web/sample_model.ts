// The small real model that ships with the page, fetched when it is asked for: as it came, and as samebits packs it.

import packedUrl from '../build/gemma4-kjv-6m.safetensors?url';
import configUrl from '../tests/data/gemma4-kjv-6m/config.json?url';
import weightsUrl from '../tests/data/gemma4-kjv-6m/model.safetensors?url';

/** For people: what it is and what it costs. */
export const SAMPLE_MODEL = {
  name: 'gemma4-kjv-6m',
  words: 'a real Gemma 4 of 6.5 million parameters',
  size: '13 MB',
} as const;

let packed: Blob | null = null;

/** @throws Error when the files cannot be fetched */
export async function fetchSampleModel(): Promise<readonly File[]> {
  return Promise.all([fetchFile(weightsUrl, 'model.safetensors'), fetchFile(configUrl, 'config.json')]);
}

/**
 * The packed model with its tokenizer, one file that the build converted; fetched once.
 * @throws Error when it cannot be fetched
 */
export async function fetchPackedModel(onProgress: (doneBytes: number, totalBytes: number) => void): Promise<Blob> {
  if (packed !== null) return packed;
  const { body, headers } = await fetchOk(packedUrl, 'the packed model');
  const totalBytes = Number(headers.get('content-length') ?? 0);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let doneBytes = 0;
  for (const reader = body?.getReader(); reader !== undefined; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    doneBytes += value.byteLength;
    onProgress(doneBytes, Math.max(doneBytes, totalBytes));
  }
  packed = new Blob(chunks);
  return packed;
}

async function fetchFile(url: string, name: string): Promise<File> {
  return new File([await (await fetchOk(url, name)).blob()], name);
}

async function fetchOk(url: string, name: string): Promise<Response> {
  const response = await fetch(url);
  if (response.ok) return response;
  throw new Error(`${name} could not be fetched: ${response.status} ${response.statusText}`);
}
