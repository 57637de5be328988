// samebits generate: text in, text out. The text goes to stdout as it comes, everything about it to stderr.

import { setImmediate } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import {
  type Backend,
  ChatTemplate,
  type Generation,
  type GenerationEnd,
  type SamplingOptions,
  TextModelFile,
} from '../../core/index.js';
import { parseBackendName } from '../backend_option.js';
import { interruptible } from '../interruption.js';
import { BACKEND_ORDER, openBackend } from '../open_backend.js';
import { withSamebitsFile } from '../packed_file.js';
import { terminalProgress } from '../progress.js';
import { readStandardInput } from '../standard_input.js';
import { TextPrinter } from '../text_printer.js';

interface GenerateOptions {
  readonly prompt: string;
  readonly maxNewTokens: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: number;
  readonly backend: string;
  readonly chat?: true;
  readonly json?: true;
}

export function registerGenerate(program: Command): void {
  program
    .command('generate')
    .description('write on from a prompt: the same text on every backend')
    .argument('<file>', "a model that 'samebits convert' wrote")
    .requiredOption('--prompt <text>', "the text to continue; '-' reads it from stdin, without its last newline")
    .option('--max-new-tokens <n>', 'tokens to write at most', parseCount, 128)
    .option(
      '--temperature <t>',
      '0 takes the likeliest token each time (default: 0, or 1 with an option below)',
      parseNumber,
    )
    .option('--top-k <k>', 'draw from the k likeliest tokens', parseCount)
    .option('--top-p <p>', 'draw from the likeliest tokens that have p of the probability together', parseShare)
    .option('--seed <seed>', 'what the draws begin with; the same seed gives the same text (default: 0)', parseSeed)
    .addOption(new Option('--backend <name>', 'what computes').choices(['auto', ...BACKEND_ORDER]).default('auto'))
    .option('--chat', "take the prompt for what a user says, by the model's chat template")
    .option('--json', 'print one JSON object at the end instead of the text')
    .action(generate);
}

function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count > 0) return count;
  throw new InvalidArgumentError('Expected a positive integer.');
}

function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value) && value >= 0) return value;
  throw new InvalidArgumentError('Expected a number, 0 or more.');
}

function parseShare(text: string): number {
  const share = Number(text);
  if (share > 0 && share <= 1) return share;
  throw new InvalidArgumentError('Expected a number above 0, at most 1.');
}

function parseSeed(text: string): number {
  const seed = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(seed) && seed >= 0) return seed;
  throw new InvalidArgumentError('Expected an integer from 0 to 2^53 - 1.');
}

async function generate(path: string, options: GenerateOptions): Promise<void> {
  const progress = terminalProgress();
  const printer = new TextPrinter(options.json !== true);
  const work = async (signal: AbortSignal) => {
    const prompt = options.prompt === '-' ? await readStandardInput(signal) : options.prompt;
    await withSamebitsFile(path, async (packed) => {
      const file = await TextModelFile.open(packed);
      const tokens = file.textTokens(options.chat ? await asChat(file, prompt) : prompt);
      const capacity = file.capacityFor(tokens, options.maxNewTokens);
      const backend = await openBackend(options.backend === 'auto' ? 'auto' : parseBackendName(options.backend));
      try {
        const onProgress = (doneBytes: number, totalBytes: number) =>
          progress.update(`loading the model, ${Math.floor((100 * doneBytes) / totalBytes)} %`);
        const model = await file.load(backend, { signal, onProgress });
        const session = await model.openSession(capacity);
        progress.clear();
        if (!options.chat) printer.prompt(prompt);
        const settings = { maxNewTokens: options.maxNewTokens, ...samplingOf(options) };
        const generation = model.generate(session, tokens, { ...settings, signal, betweenSteps: () => setImmediate() });
        for await (const { delta } of generation) printer.token(delta);
        printer.end();
        if (options.json) process.stdout.write(`${JSON.stringify(report(generation, tokens, settings, backend))}\n`);
        else process.stderr.write(summary(generation, backend));
      } finally {
        await backend.dispose();
      }
    });
  };
  const tidy = () => {
    progress.clear();
    printer.end();
  };
  await interruptible(work, tidy, () => (options.json ? 'nothing was printed' : printer.written));
}

async function asChat(file: TextModelFile, prompt: string): Promise<string> {
  const template = await ChatTemplate.of(file.chatSources);
  return template.render([{ role: 'user', content: prompt }]);
}

/** Greedy, unless an option asks for draws. */
function samplingOf({ temperature, topK, topP, seed }: GenerateOptions): SamplingOptions {
  const isDrawn = topK !== undefined || topP !== undefined || seed !== undefined;
  return {
    temperature: temperature ?? (isDrawn ? 1 : 0),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    seed: seed ?? 0,
  };
}

const ENDS: Readonly<Record<GenerationEnd, string>> = {
  endToken: 'the model ended it',
  maxNewTokens: 'as many as asked for',
  contextFull: "the model's context is full",
};

function summary({ tokens, end, times }: Generation, { name, device }: Backend): string {
  const { promptTokens, promptMs, decodedTokens, decodeMs } = times;
  const line = (what: string, count: number, rate: string) => `${what} ${String(count).padStart(6)} tokens  ${rate}\n`;
  return (
    `\n${line('prompt', promptTokens, inRate(promptTokens, promptMs))}` +
    line('text  ', tokens.length, `${inRate(decodedTokens, decodeMs)}, ${end === null ? 'not ended' : ENDS[end]}`) +
    `on ${name}: ${device.name}\n`
  );
}

function inRate(tokens: number, elapsedMs: number): string {
  return tokens === 0 ? '-' : `${Number(((1000 * tokens) / elapsedMs).toPrecision(3))} tokens/s`;
}

function report(
  { tokens, text, end, times }: Generation,
  prompt: readonly number[],
  settings: SamplingOptions & { readonly maxNewTokens: number },
  backend: Backend,
) {
  const { name, device, passedOver } = backend;
  return { backend: name, device, passedOver, prompt, tokens, text, end, ...settings, times };
}
