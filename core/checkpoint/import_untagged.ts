// Files from before the tag, and Int4Tensor parts without torchao's metadata: qdata, scale and zero_point by name alone.

import { SamebitsError } from '../errors.js';
import { int4Weight } from './import_torchao.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { requirePart } from './part_reader.js';
import { type Found, foundWeight } from './source_weight.js';
import { isTagged } from './tag.js';
import { quoted } from './tensor_error.js';

/** `<name>.qdata` of the old files; `P._weight_qdata` of torchao. */
const QDATA = /^(.+)([._])qdata$/s;

/** Weights that only their names and shapes describe. */
export async function importUntagged(model: ModelCheckpoint, layout: LayoutChoice): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const [tensorName, qdata] of model.tensors) {
    const [, prefix = '', separator = ''] = QDATA.exec(tensorName) ?? [];
    if (prefix === '' || isTagged(qdata.file) || qdata.file.metadata.has('tensor_names')) continue;
    const part = (suffix: string) => `${prefix}${separator}${suffix}`;
    const name = separator === '.' ? prefix : prefix.replace(/(^|\.)_(?=[^.]+$)/, '$1');
    const parts = ['qdata', 'scale', 'zero_point'].flatMap((suffix) => model.tensors.get(part(suffix)) ?? []);
    found.push(
      await foundWeight(name, parts, () => {
        const scale = requirePart(model.tensors, part('scale'), name);
        const zeroPoint = requirePart(model.tensors, part('zero_point'), name);
        const [n = 0, kHalf = 0] = qdata.shape;
        const order = orderOf(name, n, scale.shape, layout);
        const nGroups = scale.shape[order === 'native' ? 0 : 1] ?? 0;
        return int4Weight({ name, qdata, scale, zeroPoint, groupSize: (2 * kHalf) / nGroups, order, layout });
      }),
    );
  }
  return found;
}

/** What the shape says; a square could be either. */
function orderOf(name: string, n: number, shape: readonly number[], layout: LayoutChoice): 'native' | 'coalesced' {
  const [rows, columns] = shape;
  if (shape.length === 2 && rows === n && columns === n) {
    const rule = `weight ${quoted(name)}: the order of its scales must be known`;
    return layout.ask(
      ['native', 'coalesced'],
      rule,
      `a square scale [${shape}]: [n_groups, N] and [N, n_groups] look alike`,
    );
  }
  if (shape.length === 2 && columns === n) return 'native';
  if (shape.length === 2 && rows === n) return 'coalesced';
  throw new SamebitsError('FILE_TENSOR_INVALID', {
    rule: `weight ${quoted(name)}: scale must be [n_groups, N] or [N, n_groups]`,
    expected: `N = ${n} rows or columns`,
    got: `[${shape}]`,
    fix: 'The file is damaged or of another format.',
  });
}
