// Which tensors of a model are packed, which are kept as they are, which stay behind, and why.

import { requireFields, requireObject } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';
import { DEFAULT_FORM } from '../forms.js';
import { MAX_K, weightShape } from '../limits.js';
import { isDtype } from './dtypes.js';

import { findWeights } from './importers.js';
import { type ImportOptions, LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { NameRules, patternMatcher, type Role } from './name_rules.js';
import type { PackedShape } from './packed_parts.js';
import { packedShape } from './packed_shape.js';
import type { Found, SourceWeight } from './source_weight.js';
import type { ModelTensor } from './tensor_file.js';

export interface SelectionOptions extends ImportOptions {
  /** Weights that share a scale: 16, or a power of two >= 32. Default 32. Weights with 4 bits already keep their own. */
  readonly groupSize?: number;
  /** Zero point 8 everywhere instead of one that follows each group's range. Only for weights that are quantized here. */
  readonly symmetric?: boolean;
  /**
   * Round scales, and zero points or offsets, of weights with 4 bits to a scale and a zero point in bf16, which is one form for
   * all. Default false: each weight keeps its own numbers, in the form that loses nothing.
   */
  readonly rounded?: boolean;
  /** Patterns with `*`: only matrices that fit one are packed, whatever their names suggest. */
  readonly include?: readonly string[];
  /** Patterns with `*`: tensors that fit one are kept plain. Wins over include. */
  readonly exclude?: readonly string[];
}

interface Selected {
  readonly name: string;
  /** The element type; of a 4-bit weight the format. */
  readonly dtype: string;
  /** Row-major; [N, K] of a weight. */
  readonly shape: readonly number[];
  /** In the source, all parts together. */
  readonly sizeBytes: number;
  /** The shape it is packed with; undefined when it is not. */
  readonly packed: PackedShape | undefined;
  /** Whether it is also, or only, copied as it is. Neither packed nor kept: it stays behind. */
  readonly keepPlain: boolean;
  /** The role it is packed for, or why it is not. */
  readonly reason: string;
}

/** What becomes of a tensor that holds no packed codes. */
export interface SelectedTensor extends Selected {
  readonly kind: 'tensor';
  readonly tensor: ModelTensor;
}

/** A weight that has 4 bits in the source. */
export interface SelectedWeight extends Selected {
  readonly kind: 'weight';
  readonly weight: SourceWeight;
  readonly packed: PackedShape;
}

export type Selection = SelectedTensor | SelectedWeight;

const DEFAULT_GROUP_SIZE = 32;
const PACKABLE_DTYPES: ReadonlySet<string> = new Set(['BF16', 'F16', 'F32']);
const KEPT_ROLES: Readonly<Record<Exclude<Role, 'linear' | 'tied head'>, string>> = {
  embedding: 'an embedding',
  router: 'a router',
  transposed: 'perhaps stored transposed, [K, N]',
};

/**
 * Packs every weight that has 4 bits already. Where there is none, packs the matrices of linear layers: tensors `*.weight`
 * of rank 2 in bf16, f16 or f32 whose shape the operator takes. Embeddings are kept, and packed too when they serve as the
 * tied head; routers are kept, for their choices are discrete.
 * @throws SamebitsError GROUP_SIZE_UNSUPPORTED, ARGUMENT_INVALID for a pattern that fits nothing or a layout that nobody
 * asked for; the refusal of the first weight that is neither excluded nor readable
 */
export async function selectTensors(
  model: ModelCheckpoint,
  options: SelectionOptions = {},
): Promise<readonly Selection[]> {
  requireFields(model, 'an open model', ['tensors', 'files', 'config']);
  const groupSize = requireObject(options, 'the options of a selection').groupSize ?? DEFAULT_GROUP_SIZE;
  // Against a K that every supported group size divides.
  weightShape(1, 2 ** Math.floor(Math.log2(MAX_K)), groupSize);
  const layout = new LayoutChoice(options);
  const found = await findWeights(model, layout);
  const claimed = new Set(found.flatMap((entry) => partsOf(entry).map(({ name }) => name)));
  const unclaimed = [...model.tensors.values()].filter(({ name }) => !claimed.has(name));
  const names = new Set([...unclaimed.map(({ name }) => name), ...found.map(nameOf)]);
  const isExcluded = patternMatcher(options.exclude ?? [], names);
  const isIncluded = options.include && patternMatcher(options.include, names);

  const weights = found.flatMap((entry): readonly Selection[] => {
    const name = nameOf(entry);
    const reasonToLeave = isExcluded(name) ? 'excluded' : isIncluded && !isIncluded(name) ? 'not included' : undefined;
    if (reasonToLeave !== undefined) return partsOf(entry).map((part) => leftBehind(part, reasonToLeave));
    if (entry.kind === 'left') return entry.parts.map((part) => leftBehind(part, entry.reason));
    if (entry.kind === 'refused') throw entry.error;
    return [selectedWeight(entry.weight, options.rounded ?? false)];
  });
  layout.refuseUnasked();
  const rules = new NameRules(model.tensors.keys(), model.config);
  const hasWeights = found.some(({ kind }) => kind === 'weight');
  const plain = unclaimed.map((tensor): SelectedTensor => {
    const { name, dtype, shape } = tensor;
    if (isExcluded(name)) return kept(tensor, 'excluded');
    if (isIncluded && !isIncluded(name)) return kept(tensor, 'not included');
    const role = rules.roleOf(name);
    if (shape.length !== 2) return kept(tensor, `not a matrix, rank ${shape.length}`);
    if (!isIncluded) {
      if (role === undefined) return kept(tensor, "not a module's weight");
      if (hasWeights) return kept(tensor, 'plain in a quantized model');
      if (role !== 'linear' && role !== 'tied head') return kept(tensor, KEPT_ROLES[role]);
    }
    if (!PACKABLE_DTYPES.has(dtype)) return kept(tensor, `dtype ${dtype}`);
    const packed = shapeOrReason(shape, groupSize);
    if (typeof packed === 'string') return kept(tensor, packed);
    const keepPlain = role === 'tied head' || role === 'embedding';
    return { ...kept(tensor, isIncluded ? 'included' : (role ?? 'linear')), packed, keepPlain };
  });
  return [...weights, ...plain];
}

export function nameOf(found: Found): string {
  return found.kind === 'weight' ? found.weight.name : found.name;
}

export function partsOf(found: Found): readonly ModelTensor[] {
  return found.kind === 'weight' ? found.weight.parts : found.parts;
}

function selectedWeight(weight: SourceWeight, rounded: boolean): SelectedWeight {
  const { name, format, n, k, parts } = weight;
  return {
    kind: 'weight',
    name,
    dtype: format,
    shape: [n, k],
    sizeBytes: parts.reduce((sum, part) => sum + part.sizeBytes, 0),
    weight,
    packed: packedShape(weight, rounded ? DEFAULT_FORM : weight.form),
    keepPlain: false,
    reason: 'has 4 bits',
  };
}

export function kept(tensor: ModelTensor, reason: string): SelectedTensor {
  const { name, dtype, shape, sizeBytes } = tensor;
  return { kind: 'tensor', name, dtype, shape, sizeBytes, tensor, packed: undefined, keepPlain: true, reason };
}

/** Kept as it is, unless its type is one that only GGUF has. */
function leftBehind(tensor: ModelTensor, reason: string): SelectedTensor {
  return { ...kept(tensor, reason), keepPlain: isDtype(tensor.dtype) };
}

function shapeOrReason(shape: readonly number[], groupSize: number): PackedShape | string {
  const [n = 0, k = 0] = shape;
  try {
    return { ...weightShape(n, k, groupSize), form: DEFAULT_FORM };
  } catch (error) {
    if (!(error instanceof SamebitsError)) throw error;
    switch (error.code) {
      case 'N_UNSUPPORTED':
        return `N = ${n} is not supported`;
      case 'K_UNSUPPORTED':
        return k % 32 === 0 ? `K = ${k} is not supported` : `K = ${k} is not a multiple of 32`;
      default:
        return `group size ${groupSize} does not divide K = ${k}`;
    }
  }
}
