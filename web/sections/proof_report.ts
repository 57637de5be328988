// The result of a run as text that can be pasted anywhere: what ran where, the verdict, every difference.

import { formatDifference, type ParityResult } from '../../core/index.js';
import type { DeviceReport } from '../engine/messages.js';
import type { CudaRecord } from '../records.js';
import { differsFrom, isEqual, type Verdict } from './proof_verdict.js';

/** Differences that are spelled out. */
const MAX_LISTED = 20;

export interface ReportParts {
  readonly verdict: Verdict;
  readonly results: readonly ParityResult[];
  /** Null when the reference ran alone. */
  readonly device: DeviceReport | null;
  readonly records: readonly CudaRecord[];
  readonly userAgent: string;
  readonly version: string;
  readonly shaderSourcesSha256: string;
}

export function proofReport(parts: ReportParts): string {
  const { verdict, results, device, records, userAgent, version, shaderSourcesSha256 } = parts;
  const standings = verdict.records.map((standing) => {
    const record = records.find(({ device: name }) => name === standing.device);
    const where = `${standing.device}, driver ${record?.driver}, ${record?.recordedAt.slice(0, 10)}`;
    return `recorded CUDA run: ${where}: ${standing.equal} of ${standing.compared} equal`;
  });
  const details = Object.entries(device?.info.details ?? {}).map(([name, value]) => `  ${name}: ${value}`);
  const lines = [
    `samebits ${version}: ${verdict.state}`,
    verdict.sentence,
    '',
    `device: ${device?.info.name ?? 'no WebGPU; the CPU reference alone'}`,
    ...details,
    `browser: ${userAgent}`,
    `shaders: ${shaderSourcesSha256}`,
    `results: ${results.filter(isEqual).length} of ${results.length} ${device ? 'equal to the CPU reference' : 'computed'}`,
    ...standings,
  ];
  const differing = results.flatMap((result) => differencesOf(result, records));
  if (differing.length > 0) lines.push('', 'differences:', ...differing.slice(0, MAX_LISTED));
  if (differing.length > MAX_LISTED) lines.push(`  and ${differing.length - MAX_LISTED} more`);
  return `${lines.join('\n')}\n`;
}

function differencesOf(result: ParityResult, records: readonly CudaRecord[]): string[] {
  const onDevice = result.outcomes.flatMap(({ backend, difference }) =>
    difference ? [`  ${result.name}: ${backend}, ${difference.outputType} ${formatDifference(difference)}`] : [],
  );
  const recorded = records
    .filter((record) => differsFrom(record, result))
    .map(({ device }) => `  ${result.name}: the reference's digest ${result.sha256} is not that of ${device}`);
  return [...onDevice, ...recorded];
}
