// What the results of a run say, in one sentence.

import { formatDifference, type ParityResult } from '../../core/index.js';
import { inCount } from '../figures.js';
import { type CudaRecord, recordedDigest } from '../records.js';

/** How the results stand against one recorded CUDA run. */
export interface RecordStanding {
  readonly device: string;
  /** Inputs that the record holds, and those of them that gave its digest. */
  readonly compared: number;
  readonly equal: number;
}

export interface Verdict {
  /** `uncompared`: only the reference ran, and no record holds these inputs. */
  readonly state: 'equal' | 'different' | 'uncompared';
  readonly sentence: string;
  /** Position of the first result that is not equal everywhere. */
  readonly firstDifferent?: number;
  readonly records: readonly RecordStanding[];
}

/** Whether every backend gave the reference's bits. */
export function isEqual(result: ParityResult): boolean {
  return result.outcomes.every(({ difference }) => difference === null);
}

/** Whether a record holds other bits for this input; the reference's digest is the device's when `isEqual`. */
export function differsFrom(record: CudaRecord, result: ParityResult): boolean {
  const digest = recordedDigest(record, result.name);
  return digest !== undefined && digest !== result.sha256;
}

/** @param device where WebGPU ran, for the sentence; null when the reference ran alone */
export function judge(
  results: readonly ParityResult[],
  device: string | null,
  records: readonly CudaRecord[],
): Verdict {
  const standings = records
    .map((record) => {
      const held = results.filter(({ name }) => recordedDigest(record, name) !== undefined);
      const equal = held.filter((result) => isEqual(result) && !differsFrom(record, result)).length;
      return { device: record.device, compared: held.length, equal };
    })
    .filter(({ compared }) => compared > 0);

  const differing = results.filter((result) => !isEqual(result));
  const first = differing[0];
  const difference = first?.outcomes.find((outcome) => outcome.difference)?.difference;
  if (first && difference) {
    return {
      state: 'different',
      sentence:
        `${inputs(differing.length)} of ${results.length} gave other bits than the reference. ` +
        `The first: ${first.name}, ${difference.outputType} ${formatDifference(difference)}.`,
      firstDifferent: results.indexOf(first),
      records: standings,
    };
  }
  for (const record of records) {
    const other = results.findIndex((result) => differsFrom(record, result));
    if (other < 0) continue;
    const agreed = device === null ? 'The reference ran' : `The reference and ${device} agree`;
    return {
      state: 'different',
      sentence: `${agreed}, but the run recorded on ${record.device} gave other bits for ${results[other]!.name}.`,
      firstDifferent: other,
      records: standings,
    };
  }
  if (device === null && standings.length === 0) {
    const sentence = `The reference ran ${inputs(results.length)}, but there is no GPU here and no recorded run of them to compare with.`;
    return { state: 'uncompared', sentence, records: standings };
  }
  return { state: 'equal', sentence: equalSentence(results, device, standings), records: standings };
}

function equalSentence(
  results: readonly ParityResult[],
  device: string | null,
  standings: readonly RecordStanding[],
): string {
  const bits = inCount(results.reduce((sum, { m, n }) => sum + m * n * (32 + 16), 0));
  const whole = standings.filter(({ compared }) => compared === results.length).map(({ device: where }) => where);
  const part = standings
    .filter(({ compared }) => compared < results.length)
    .map(({ device: where, compared }) => `${compared} of them the ${where}’s`);
  const others = whole.length > 0 ? whole.map((where) => `the ${where}’s`).join(' and ') : 'the CPU reference’s';
  const computed = device === null ? 'by the CPU reference in this browser' : `on ${device}`;
  const also = part.length > 0 ? ` and ${part.join(' and ')}` : '';
  return `All ${results.length} results equal ${others}${also}, bit for bit: ${bits} output bits, computed ${computed}.`;
}

function inputs(count: number): string {
  return `${count} ${count === 1 ? 'input' : 'inputs'}`;
}
