// The tag that makes a safetensors file a samebits checkpoint: written, read, and its absence explained.

import { requireFields } from '../argument_checks.js';
import { COALESCED_LAYOUT } from '../coalesced_int4_tensor.js';
import { type ErrorCode, SamebitsError } from '../errors.js';
import { type WeightShape, weightShape } from '../limits.js';
import type { SafetensorsFile } from './safetensors_reader.js';
import { describeJson, isJsonObject, type JsonValue, parseStrictJsonObject } from './strict_json.js';
import { inTensor, quoted } from './tensor_error.js';
import type { TensorFile } from './tensor_file.js';

const FORMAT = 'samebits';
const LAYOUT_VERSION = '1';
/** The operands of packed weight `<name>` are the tensors `<name>.qdata`, `<name>.scale` and `<name>.zero_point`. */
export const PART_SUFFIXES = { qdata: '.qdata', scale: '.scale', zeroPoint: '.zero_point' } as const;

/** The metadata of a file with these packed weights. `convertedFrom` is the tag's `source`, e.g. `hf:bf16`. */
export function tagMetadata(
  weights: ReadonlyMap<string, WeightShape>,
  convertedFrom?: string,
): ReadonlyMap<string, string> {
  const entries = [...weights].map(
    ([name, { n, k, groupSize }]) => `${JSON.stringify(name)}:${JSON.stringify({ n, k, group_size: groupSize })}`,
  );
  const metadata = new Map([
    ['format', FORMAT],
    ['layout', COALESCED_LAYOUT],
    ['layout_version', LAYOUT_VERSION],
    ['int4_tensors', `{${entries.join()}}`],
  ]);
  if (convertedFrom !== undefined) metadata.set('source', convertedFrom);
  return metadata;
}

/** Whether the file says that it is a samebits checkpoint, of whatever layout. */
export function isTagged(file: Pick<TensorFile, 'metadata'>): boolean {
  const { metadata } = requireFields(file, 'an open file', ['metadata']);
  return metadata.get('format') === FORMAT && metadata.has('layout');
}

/**
 * The packed weights that the tag lists.
 * @throws SamebitsError FILE_LAYOUT_UNTAGGED, FILE_LAYOUT_AMBIGUOUS, FILE_LAYOUT_UNKNOWN, FILE_LAYOUT_VERSION_UNKNOWN,
 * FILE_HEADER_INVALID, FILE_DUPLICATE_KEY; N_, K_ and GROUP_SIZE_UNSUPPORTED, naming the tensor
 */
export function readTag(file: SafetensorsFile): ReadonlyMap<string, WeightShape> {
  if (!isTagged(file)) throw untaggedError(file);
  const layout = file.metadata.get('layout') ?? '';
  if (layout !== COALESCED_LAYOUT) throw unknownTag('FILE_LAYOUT_UNKNOWN', file, 'layout', COALESCED_LAYOUT, layout);
  const version = file.metadata.get('layout_version');
  if (version !== LAYOUT_VERSION) {
    throw unknownTag('FILE_LAYOUT_VERSION_UNKNOWN', file, 'layout_version', LAYOUT_VERSION, version);
  }
  const what = `int4_tensors in the tag of ${file.name}`;
  const listed = parseStrictJsonObject(file.metadata.get('int4_tensors') ?? '', what);
  return new Map([...listed].map(([name, entry]) => [name, parseEntry(name, entry, what)]));
}

function parseEntry(name: string, entry: JsonValue, what: string): WeightShape {
  if (isJsonObject(entry) && [...entry.keys()].sort().join() === 'group_size,k,n') {
    const [n, k, groupSize] = [entry.get('n'), entry.get('k'), entry.get('group_size')];
    if (typeof n === 'number' && typeof k === 'number' && typeof groupSize === 'number') {
      try {
        return weightShape(n, k, groupSize);
      } catch (error) {
        throw inTensor(name, error);
      }
    }
  }
  const members = isJsonObject(entry) ? [...entry].map(([key, value]) => `${quoted(key)}: ${describeJson(value)}`) : [];
  throw new SamebitsError('FILE_HEADER_INVALID', {
    rule: `tensor ${quoted(name)}: its entry in ${what} must give its shape`,
    expected: '{"n": N, "k": K, "group_size": g}, three integers',
    got: isJsonObject(entry) ? `{${members.slice(0, 8).join(', ')}}` : describeJson(entry),
    fix: "Write the file again with 'samebits convert'.",
  });
}

function unknownTag(code: ErrorCode, file: SafetensorsFile, key: string, expected: string, got: string | undefined) {
  return new SamebitsError(code, {
    rule: `${key} in the tag of ${file.name} must be one that this version reads`,
    expected: quoted(expected),
    got: got === undefined ? 'none' : quoted(got),
    fix: "Update samebits, or write the file again with 'samebits convert'.",
  });
}

/** What the shapes of an untagged file suggest. They never decide: a square scale fits both layouts. */
function untaggedError(file: SafetensorsFile): SamebitsError {
  const code = 'FILE_LAYOUT_UNTAGGED';
  const rule = `${file.name} must carry the samebits layout tag`;
  const expected = `format "${FORMAT}" and layout "${COALESCED_LAYOUT}" in __metadata__`;
  const command = `samebits convert ${file.name} OUT.safetensors`;
  const fix = `Run '${command}', which repacks what it knows and writes the tag.`;
  const scales = [...file.tensors.keys()].flatMap((name) => looksOf(file, name));
  const native = scales.find(({ looks }) => looks === 'native');
  if (native) {
    const got = `none; scale ${quoted(native.name)} is [${native.shape}], which looks like [n_groups, N], torchao's layout`;
    return new SamebitsError(code, { rule, expected, got, fix });
  }
  const square = scales.find(({ looks }) => looks === 'square');
  if (square) {
    const got = `none; scale ${quoted(square.name)} is square, [${square.shape}]: [N, n_groups] and [n_groups, N] look alike`;
    const choose = `Run '${command} --layout native' for [n_groups, N], or '--layout coalesced'; its writer knows which.`;
    return new SamebitsError('FILE_LAYOUT_AMBIGUOUS', { rule, expected, got, fix: choose });
  }
  const coalesced = scales[0];
  const got = coalesced
    ? `none; scale ${quoted(coalesced.name)} is [${coalesced.shape}], which looks like [N, n_groups], but shapes are no proof`
    : `none, and no packed weight among ${file.tensors.size} tensors`;
  return new SamebitsError(code, { rule, expected, got, fix });
}

interface ScaleLooks {
  readonly name: string;
  readonly shape: readonly number[];
  readonly looks: 'native' | 'square' | 'coalesced';
}

/** The layout that the scale beside packed codes `<p>qdata` [N, K/2] seems to be in. */
function looksOf(file: SafetensorsFile, qdataName: string): ScaleLooks[] {
  if (!qdataName.endsWith('qdata')) return [];
  const name = `${qdataName.slice(0, -'qdata'.length)}scale`;
  const scale = file.tensors.get(name)?.shape;
  const n = file.tensors.get(qdataName)?.shape[0];
  if (scale?.length !== 2) return [];
  const [rows, columns] = scale;
  if (rows === n && columns === n) return [{ name, shape: scale, looks: 'square' }];
  if (columns === n) return [{ name, shape: scale, looks: 'native' }];
  return rows === n ? [{ name, shape: scale, looks: 'coalesced' }] : [];
}
