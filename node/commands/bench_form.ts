// The form of the weights of a suite: --form and --dtype of samebits bench.

import { type Command, Option } from 'commander';
import {
  areSameForm,
  DEFAULT_FORM,
  describeForm,
  type FormKind,
  type HalfDtype,
  isNested,
  type WeightForm,
  weightForm,
} from '../../core/forms.js';

const KINDS: readonly FormKind[] = ['zero', 'offset', 'nested-zero', 'nested-offset'];
const DTYPES: readonly HalfDtype[] = ['bf16', 'f16'];

export interface FormOptions {
  readonly form?: FormKind;
  readonly dtype?: HalfDtype;
}

export function addFormOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--form <form>', `with --suite: what weights keep of a group (default ${DEFAULT_FORM.kind})`).choices(
        KINDS,
      ),
    )
    .addOption(
      new Option(
        '--dtype <type>',
        `with --suite: of scales and zero points or offsets (default ${DEFAULT_FORM.dtype}; nested f16)`,
      ).choices(DTYPES),
    );
}

/**
 * The form that the options name, codes counted from 0; undefined for the default one.
 * @throws SamebitsError FORM_UNKNOWN for a nested form of bf16
 */
export function formOf({ form: kind = DEFAULT_FORM.kind, dtype }: FormOptions): WeightForm | undefined {
  const usual = isNested({ ...DEFAULT_FORM, kind }) ? 'f16' : DEFAULT_FORM.dtype;
  const form = weightForm(kind, dtype ?? usual, 0);
  return areSameForm(form, DEFAULT_FORM) ? undefined : form;
}

/** For a JSON of a suite; nothing of the default form. */
export function formField(form: WeightForm | undefined): { readonly form?: string } {
  return form ? { form: describeForm(form) } : {};
}
