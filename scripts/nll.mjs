// How well a model foretells a text: node scripts/nll.mjs MODEL TEXT [BACKEND] [WINDOWS]
// The mean negative log-likelihood, in nats a token. Windows of 256 tokens follow each other, each a text of its own without a
// beginning token; every token of one foretells the next of the text. The first WINDOWS of them, or all that are whole. Needs
// dist/ (npm run build).

import { readFileSync } from 'node:fs';

const WINDOW = 256;

/** @param {Float32Array} logits @param {number} token -ln of its share of the softmax */
export function negativeLogLikelihood(logits, token) {
  let largest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) largest = Math.max(largest, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return largest + Math.log(sum) - /** @type {number} */ (logits[token]);
}

/**
 * What the tokens of the first `count` whole windows foretell, in the order of the text.
 * @param {{openSession(capacity: number): Promise<import('../core/model/session.js').DecoderSession>}} model
 * @param {readonly number[]} tokens
 * @param {number} count
 * @param {(done: number) => void} [onWindow]
 */
export async function windowLosses(model, tokens, count, onWindow = () => {}) {
  /** @type {number[]} */
  const losses = [];
  const session = await model.openSession(WINDOW);
  try {
    for (let from = 0, done = 0; done < count && from + WINDOW < tokens.length; from += WINDOW) {
      const inputs = tokens.slice(from, from + WINDOW);
      session.rewind(0);
      const result = await session.append(inputs, 'everyLogit');
      if (!('logits' in result)) throw new Error('no logits');
      const size = result.logits.length / inputs.length;
      for (let i = 0; i < inputs.length; i++) {
        const next = /** @type {number} */ (tokens[from + i + 1]);
        losses.push(negativeLogLikelihood(result.logits.subarray(i * size, (i + 1) * size), next));
      }
      onWindow(++done);
    }
    return losses;
  } finally {
    session.dispose();
  }
}

if (import.meta.filename === process.argv[1]) {
  const [path, textPath, backendName = 'auto', windows = 'Infinity'] = process.argv.slice(2);
  if (path === undefined || textPath === undefined || !(Number(windows) > 0)) {
    process.stderr.write('node scripts/nll.mjs MODEL TEXT [BACKEND] [WINDOWS]\n');
    process.exit(2);
  }
  const built = new URL('../dist/node/index.js', import.meta.url).href;
  const { openBackend, openFileSource, openSamebitsFile, TextModelFile } = await import(built);
  const packed = await openSamebitsFile(await openFileSource(path));
  const file = await TextModelFile.open(packed);
  const backend = await openBackend(backendName);
  const model = await file.load(backend);
  const losses = await windowLosses(
    model,
    file.tokenizer.encode(readFileSync(textPath, 'utf8')),
    Number(windows),
    (done) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${done} windows`);
    },
  );
  const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  process.stdout.write(`${mean.toFixed(4)} nats a token over ${losses.length} tokens (${backend.name})\n`);
  model.dispose();
  await backend.dispose();
  await packed.close();
}
