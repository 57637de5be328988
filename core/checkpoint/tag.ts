// The tag that makes a safetensors file a samebits checkpoint: written, read, and its absence explained.

import { requireFields } from '../argument_checks.js';
import { COALESCED_LAYOUT, checkFormShape } from '../coalesced_parts.js';
import { type ErrorCode, SamebitsError } from '../errors.js';
import { areSameForm, DEFAULT_FORM, hasOffset, weightForm } from '../forms.js';
import { weightShape } from '../limits.js';
import type { PackedShape } from './packed_parts.js';
import type { SafetensorsFile } from './safetensors_reader.js';
import { describeJson, isJsonObject, type JsonObject, type JsonValue, parseStrictJsonObject } from './strict_json.js';
import { inTensor, quoted } from './tensor_error.js';
import type { TensorFile } from './tensor_file.js';

const FORMAT = 'samebits';
/** Version 1 has no word for a form: every weight has a zero point in bf16. Files that need no more are still written so. */
const PLAIN_VERSION = '1';
const FORMS_VERSION = '2';

/** The metadata of a file with these packed weights. `convertedFrom` is the tag's `source`, e.g. `hf:bf16`. */
export function tagMetadata(
  weights: ReadonlyMap<string, PackedShape>,
  convertedFrom?: string,
): ReadonlyMap<string, string> {
  const isPlain = [...weights.values()].every(({ form }) => areSameForm(form, DEFAULT_FORM));
  const entries = [...weights].map(
    ([name, shape]) => `${JSON.stringify(name)}:${JSON.stringify(entryOf(shape, isPlain))}`,
  );
  const metadata = new Map([
    ['format', FORMAT],
    ['layout', COALESCED_LAYOUT],
    ['layout_version', isPlain ? PLAIN_VERSION : FORMS_VERSION],
    ['int4_tensors', `{${entries.join()}}`],
  ]);
  if (convertedFrom !== undefined) metadata.set('source', convertedFrom);
  return metadata;
}

function entryOf({ n, k, groupSize, form }: PackedShape, isPlain: boolean): Readonly<Record<string, unknown>> {
  const shape = { n, k, group_size: groupSize };
  if (isPlain) return shape;
  const { kind, dtype, center } = form;
  return { ...shape, form: kind, dtype, ...(hasOffset(form) ? { center } : {}) };
}

/** Whether the file says that it is a samebits checkpoint, of whatever layout. */
export function isTagged(file: Pick<TensorFile, 'metadata'>): boolean {
  const { metadata } = requireFields(file, 'an open file', ['metadata']);
  return metadata.get('format') === FORMAT && metadata.has('layout');
}

/**
 * The packed weights that the tag lists.
 * @throws SamebitsError FILE_LAYOUT_UNTAGGED, FILE_LAYOUT_AMBIGUOUS, FILE_LAYOUT_UNKNOWN, FILE_LAYOUT_VERSION_UNKNOWN,
 * FILE_HEADER_INVALID, FILE_DUPLICATE_KEY; N_, K_ and GROUP_SIZE_UNSUPPORTED, FORM_UNKNOWN, naming the tensor
 */
export function readTag(file: SafetensorsFile): ReadonlyMap<string, PackedShape> {
  if (!isTagged(file)) throw untaggedError(file);
  const layout = file.metadata.get('layout') ?? '';
  if (layout !== COALESCED_LAYOUT) throw unknownTag('FILE_LAYOUT_UNKNOWN', file, 'layout', COALESCED_LAYOUT, layout);
  const version = file.metadata.get('layout_version');
  if (version !== PLAIN_VERSION && version !== FORMS_VERSION) {
    const expected = `${PLAIN_VERSION}" or "${FORMS_VERSION}`;
    throw unknownTag('FILE_LAYOUT_VERSION_UNKNOWN', file, 'layout_version', expected, version);
  }
  const what = `int4_tensors in the tag of ${file.name}`;
  const listed = parseStrictJsonObject(file.metadata.get('int4_tensors') ?? '', what);
  const hasForms = version === FORMS_VERSION;
  return new Map([...listed].map(([name, entry]) => [name, parseEntry(name, entry, hasForms, what)]));
}

const SHAPE_KEYS = ['n', 'k', 'group_size'];

function parseEntry(name: string, entry: JsonValue, hasForms: boolean, what: string): PackedShape {
  const keys = hasForms ? [...SHAPE_KEYS, 'form', 'dtype'] : SHAPE_KEYS;
  if (isJsonObject(entry) && hasOnly(entry, keys, hasForms ? ['center'] : [])) {
    const [n, k, groupSize] = SHAPE_KEYS.map((key) => entry.get(key));
    if (typeof n === 'number' && typeof k === 'number' && typeof groupSize === 'number') {
      try {
        const shape = weightShape(n, k, groupSize);
        if (!hasForms) return { ...shape, form: DEFAULT_FORM };
        const form = weightForm(entry.get('form'), entry.get('dtype'), entry.get('center') ?? 0);
        checkFormShape(form, shape);
        return { ...shape, form };
      } catch (error) {
        throw inTensor(name, error);
      }
    }
  }
  const members = isJsonObject(entry) ? [...entry].map(([key, value]) => `${quoted(key)}: ${describeJson(value)}`) : [];
  throw new SamebitsError('FILE_HEADER_INVALID', {
    rule: `tensor ${quoted(name)}: its entry in ${what} must give its shape`,
    expected: hasForms
      ? '{"n": N, "k": K, "group_size": g, "form": F, "dtype": D}, and "center" of a form with an offset'
      : '{"n": N, "k": K, "group_size": g}, three integers',
    got: isJsonObject(entry) ? `{${members.slice(0, 8).join(', ')}}` : describeJson(entry),
    fix: "Write the file again with 'samebits convert'.",
  });
}

function hasOnly(entry: JsonObject, keys: readonly string[], optional: readonly string[]): boolean {
  return keys.every((key) => entry.has(key)) && [...entry.keys()].every((key) => [...keys, ...optional].includes(key));
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
