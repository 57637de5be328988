// What an open file holds, as a table that can be filtered; weights have a button that packs and multiplies.

import { element } from '../dom.js';
import type { ListedTensor, Listing } from '../engine/messages.js';
import { inBytes, inCount } from '../figures.js';

/** Rows that are drawn at a time: more hold up the page while they are laid out. */
const MAX_ROWS = 40;

const USES: Readonly<Record<ListedTensor['use'], string>> = {
  packed: 'packed',
  packable: 'can be packed',
  plain: 'stays plain',
  refused: 'refused',
};

export function weightsList({ tensors, count }: Listing, onPick: (tensor: ListedTensor) => void): HTMLElement {
  const filter = element('input', { type: 'search', id: 'weights-filter', placeholder: 'Filter by name' });
  const rows = element('tbody', {});
  const more = element('p', { class: 'quiet', role: 'log' });
  filter.addEventListener('input', show);
  show();
  return element(
    'div',
    { class: 'listing' },
    element('label', { for: 'weights-filter', class: 'unseen' }, 'Filter by name'),
    filter,
    element(
      'div',
      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Tensors of the file' },
      element(
        'table',
        {},
        element(
          'thead',
          {},
          element(
            'tr',
            {},
            ...['Tensor', 'Type', 'Shape', 'Size', 'Use'].map((title) => element('th', { scope: 'col' }, title)),
          ),
        ),
        rows,
      ),
    ),
    more,
  );

  function show(): void {
    const wanted = filter.value.toLowerCase();
    const fitting = tensors.filter(({ name }) => name.toLowerCase().includes(wanted));
    rows.replaceChildren(...fitting.slice(0, MAX_ROWS).map((tensor) => row(tensor, onPick)));
    const hidden = fitting.length - Math.min(MAX_ROWS, fitting.length) + (wanted === '' ? count - tensors.length : 0);
    more.textContent =
      hidden > 0 ? `and ${inCount(hidden)} more` : fitting.length === 0 ? 'No tensor of that name.' : '';
  }
}

function row(tensor: ListedTensor, onPick: (tensor: ListedTensor) => void): HTMLElement {
  const { name, dtype, shape, sizeBytes, use, reason, groupSize, form } = tensor;
  const type = [dtype, ...(form === undefined ? [] : [form]), ...(groupSize === undefined ? [] : [`g ${groupSize}`])];
  const isUsable = use === 'packed' || use === 'packable';
  const verb = use === 'packed' ? 'Multiply' : 'Pack and multiply';
  const label = `${verb}: ${name}`;
  const button = element('button', { type: 'button', class: 'small', 'aria-label': label }, verb.split(' ')[0]!);
  button.addEventListener('click', () => onPick(tensor));
  const words =
    use === 'refused' && tensor.failure ? `${tensor.failure.code ?? ''} ${reason}` : `${USES[use]}: ${reason}`;
  return element(
    'tr',
    { 'data-use': use },
    element('th', { scope: 'row' }, name),
    element('td', {}, type.join(', ')),
    element('td', {}, shape.map(inCount).join(' × ')),
    element('td', {}, inBytes(sizeBytes)),
    element(
      'td',
      { class: 'use' },
      isUsable ? button : element('span', { title: tensor.failure?.message ?? reason }, words),
    ),
  );
}
