// What whole steps of a decoder showed, as a table.

import type { BackendName } from '../../core/index.js';
import { formatTable } from '../table.js';
import type { ContextTiming, DecoderReport } from './decoder_measure.js';

/** Contexts whose logits differ in a bit from those of another backend in this run. */
export function differingContexts(
  report: DecoderReport,
  before: readonly DecoderReport[],
): readonly { readonly context: number; readonly from: BackendName }[] {
  return before.flatMap((other) =>
    report.contexts.flatMap(({ context, sha256 }) => {
      const there = other.contexts.find((timing) => timing.context === context);
      return there && there.sha256 !== sha256 ? [{ context, from: other.backend }] : [];
    }),
  );
}

/** For people. @param before what other backends showed in this run */
export function formatDecoder(report: DecoderReport, before: readonly DecoderReport[]): string {
  const { backend, device, layers, weightBytes, cacheBytes, contexts } = report;
  const lines = [
    `${backend} on ${device.name}${device.isSoftware ? ': software, on the CPU. These timings say nothing about a GPU.' : ''}`,
    `${layers} layers and the head: ${inGigabytes(weightBytes)} of weights, ${inGigabytes(cacheBytes)} for the cache`,
  ];
  const differing = differingContexts(report, before);
  if (differing.length > 0) {
    const list = differing.map(({ context, from }) => `${context} from ${from}`).join(', ');
    return `${[...lines, `NOT TIMED, the logits differ at a context of ${list}`].join('\n')}\n`;
  }
  const others = before.map((other) => other.backend).join(' and ');
  lines.push(
    others === ''
      ? 'logits not compared in this run: no other backend ran before'
      : `every logit at each context has the bits of ${others}`,
  );
  const right = (title: string) => ({ title, align: 'right' as const });
  const columns = ['tokens/s', 'ms', 'device ms', 'linears', 'attention', 'norms', 'rest', 'host CPU ms', '%'].map(
    right,
  );
  lines.push('', formatTable([right('context'), ...columns], contexts.map(rowOf)), '');
  const [cuda] = before.filter((other) => other.backend === 'cuda');
  for (const { context, tokensPerSecond } of cuda ? contexts : []) {
    const there = cuda?.contexts.find((timing) => timing.context === context);
    if (!there) continue;
    const ratio = tokensPerSecond / there.tokensPerSecond;
    lines.push(`at ${context}: ${ratio.toFixed(2)} of the tokens that CUDA wrote a second in this run`);
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

function rowOf({ context, step, partsUs, wall, tokensPerSecond, hostCpuUs, hostCpuPercent }: ContextTiming): string[] {
  const parts = partsUs ?? { linears: null, attention: null, norms: null, rest: null };
  const inMs = (us: number | null | undefined) => (us == null ? '' : (us / 1000).toFixed(3));
  return [
    String(context),
    tokensPerSecond.toPrecision(4),
    inMs(wall.medianUs),
    inMs(step?.medianUs),
    ...[parts.linears, parts.attention, parts.norms, parts.rest].map(inMs),
    inMs(hostCpuUs),
    hostCpuPercent.toFixed(1),
  ];
}

const inGigabytes = (sizeBytes: number) => `${(sizeBytes / 1e9).toPrecision(4)} GB`;
