// Records the texts that the page asks for, as one backend writes them: node scripts/record-verses.mjs [cuda|webgpu|cpu]
// Every text is written by the reference too, and nothing is recorded unless they are equal.

import './node-version.mjs';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './processes.mjs';
import { PACKED_MODEL, setUp } from './setup.mjs';

const FOLDER = 'tests/data/verses';

try {
  await setUp();
  // Only now: the set-up may just have built it.
  const built = new URL('../dist/node/index.js', import.meta.url).href;
  const { openBackend, openFileSource, openSamebitsFile, TextModelFile } = await import(built);
  const { seeds, prompt, ...settings } = JSON.parse(readFileSync(join(root, 'web/verses.json'), 'utf8'));

  /** @param {string} name */
  const textsOf = async (name) => {
    const backend = await openBackend(name);
    const source = await openSamebitsFile(await openFileSource(join(root, PACKED_MODEL)));
    try {
      const model = await (await TextModelFile.open(source)).load(backend);
      /** @type {Record<string, string>} */
      const texts = {};
      for (const seed of seeds) {
        texts[seed] = '';
        for await (const { delta } of model.write(prompt, { ...settings, seed })) texts[seed] += delta;
        process.stderr.write(`${name}, seed ${seed}:${texts[seed].slice(0, 60).replaceAll('\n', ' ')}…\n`);
      }
      return { device: backend.device.name, texts };
    } finally {
      await source.close();
      await backend.dispose();
    }
  };

  const name = process.argv[2] ?? 'cuda';
  const { device, texts } = await textsOf(name);
  if (name !== 'cpu') {
    const reference = await textsOf('cpu');
    const different = seeds.filter((/** @type {number} */ seed) => texts[seed] !== reference.texts[String(seed)]);
    if (different.length > 0) throw new Error(`the reference writes other texts for seeds ${different}`);
  }
  const path = join(
    root,
    FOLDER,
    `${device
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^-|-$/g, '')}.json`,
  );
  mkdirSync(join(root, FOLDER), { recursive: true });
  const record = { device, recordedAt: new Date().toISOString().slice(0, 10), prompt, ...settings, texts };
  writeFileSync(path, `${JSON.stringify(record, null, 2)}\n`);
  process.stdout.write(`wrote ${path}\n`);
} catch (error) {
  process.stderr.write(`record-verses: ${error instanceof Error ? error.message : error}\n`);
  process.exit(1);
}
