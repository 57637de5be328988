// Which tensors of a model are packed, which are kept as they are, and why.

import { SamebitsError } from '../errors.js';
import { MAX_K, type WeightShape, weightShape } from '../limits.js';
import type { ModelCheckpoint, ModelTensor } from './model_checkpoint.js';
import { NameRules, patternMatcher, type Role } from './name_rules.js';

export interface SelectionOptions {
  /** Weights that share a scale: 16, or a power of two >= 32. Default 32. */
  readonly groupSize?: number;
  /** Zero point 8 everywhere instead of one that follows each group's range. */
  readonly symmetric?: boolean;
  /** Patterns with `*`: only matrices that fit one are packed, whatever their names suggest. */
  readonly include?: readonly string[];
  /** Patterns with `*`: tensors that fit one are kept plain. Wins over include. */
  readonly exclude?: readonly string[];
}

/** What becomes of a tensor. At least one of `packed` and `keepPlain` is there. */
export interface SelectedTensor {
  readonly tensor: ModelTensor;
  /** The shape it is packed with; undefined when it is not. */
  readonly packed: WeightShape | undefined;
  /** Whether it is also, or only, copied as it is. */
  readonly keepPlain: boolean;
  /** The role it is packed for, or why it is not. */
  readonly reason: string;
}

const DEFAULT_GROUP_SIZE = 32;
const PACKABLE_DTYPES: ReadonlySet<string> = new Set(['BF16', 'F16', 'F32']);
const KEPT_ROLES: Readonly<Record<Exclude<Role, 'linear' | 'tied head'>, string>> = {
  embedding: 'an embedding',
  router: 'a router',
  transposed: 'perhaps stored transposed, [K, N]',
};

/**
 * Packs the matrices of linear layers: tensors `*.weight` of rank 2 in bf16, f16 or f32 whose shape the operator takes.
 * Embeddings are kept, and packed too when they serve as the tied head; routers are kept, for their choices are discrete.
 * @throws SamebitsError GROUP_SIZE_UNSUPPORTED, ARGUMENT_INVALID for a pattern that fits nothing
 */
export function selectTensors(model: ModelCheckpoint, options: SelectionOptions = {}): readonly SelectedTensor[] {
  const groupSize = options.groupSize ?? DEFAULT_GROUP_SIZE;
  // Against a K that every supported group size divides.
  weightShape(1, 2 ** Math.floor(Math.log2(MAX_K)), groupSize);
  const names = [...model.tensors.keys()];
  const rules = new NameRules(names, model.config);
  const isExcluded = patternMatcher(options.exclude ?? [], names);
  const isIncluded = options.include && patternMatcher(options.include, names);

  return [...model.tensors.values()].map((tensor): SelectedTensor => {
    const kept = (reason: string) => ({ tensor, packed: undefined, keepPlain: true, reason });
    const { name, dtype, shape } = tensor;
    if (isExcluded(name)) return kept('excluded');
    if (isIncluded && !isIncluded(name)) return kept('not included');
    const role = rules.roleOf(name);
    if (shape.length !== 2) return kept(`not a matrix, rank ${shape.length}`);
    if (!isIncluded) {
      if (role === undefined) return kept("not a module's weight");
      if (role !== 'linear' && role !== 'tied head') return kept(KEPT_ROLES[role]);
    }
    if (!PACKABLE_DTYPES.has(dtype)) return kept(`dtype ${dtype}`);
    const packed = shapeOrReason(shape, groupSize);
    if (typeof packed === 'string') return kept(packed);
    const keepPlain = role === 'tied head' || role === 'embedding';
    return { tensor, packed, keepPlain, reason: isIncluded ? 'included' : (role ?? 'linear') };
  });
}

function shapeOrReason(shape: readonly number[], groupSize: number): WeightShape | string {
  const [n = 0, k = 0] = shape;
  try {
    return weightShape(n, k, groupSize);
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
