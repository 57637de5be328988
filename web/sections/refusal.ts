// A refusal of the library, taken apart for people: the rule, what was expected, what came, and what to do.

import { element } from '../dom.js';
import type { Failure } from '../engine/messages.js';

export function refusal({ code, details, message }: Failure, title: string): HTMLElement {
  const rows = details
    ? ([
        ['Rule', details.rule],
        ['Expected', details.expected],
        ['Found', details.got],
        ['What to do', details.fix],
      ] as const)
    : ([['What happened', message]] as const);
  return element(
    'div',
    { class: 'refusal', ...(code && { 'data-code': code }) },
    element('h3', {}, title, ...(code ? [' ', element('code', {}, code)] : [])),
    element(
      'dl',
      {},
      ...rows.map(([term, words]) => element('div', {}, element('dt', {}, term), element('dd', {}, words))),
    ),
  );
}
