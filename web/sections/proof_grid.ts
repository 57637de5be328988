// The grid of results: one square an input, filled in as it is proved. One stop in the tab order; arrow keys move in it.

import { element } from '../dom.js';

/** Above this many squares they are drawn smaller, so that what is said below them stays in sight. */
const DENSE_FROM = 120;

export type CellState = 'pending' | 'running' | 'equal' | 'different';

const WORDS: Readonly<Record<CellState, string>> = {
  pending: 'not run yet',
  running: 'running',
  equal: 'equal',
  different: 'different',
};

export class ProofGrid {
  readonly root = element('div', { class: 'grid', role: 'toolbar', 'aria-label': 'Results by input' });
  #cells: HTMLButtonElement[] = [];
  #current = 0;

  constructor(private readonly onSelect: (index: number) => void) {
    this.root.addEventListener('keydown', (event) => this.#onKey(event));
  }

  /** Starts over with one pending square for each name. */
  reset(names: readonly string[]): void {
    this.#cells = names.map((name, index) => {
      const cell = element('button', { type: 'button', 'data-name': name, tabindex: index === 0 ? 0 : -1 });
      cell.addEventListener('click', () => this.select(index));
      return cell;
    });
    this.#current = 0;
    this.root.toggleAttribute('data-dense', names.length >= DENSE_FROM);
    this.root.replaceChildren(...this.#cells);
    names.forEach((_, index) => {
      this.mark(index, 'pending');
    });
  }

  mark(index: number, state: CellState, sha256 = ''): void {
    const cell = this.#cells[index];
    if (!cell) return;
    const name = cell.dataset['name'] ?? '';
    cell.dataset['state'] = state;
    if (sha256) cell.dataset['sha256'] = sha256;
    cell.title = name;
    cell.setAttribute('aria-label', `${name}: ${WORDS[state]}`);
  }

  select(index: number): void {
    this.#cells[this.#current]?.setAttribute('tabindex', '-1');
    this.#cells[this.#current]?.removeAttribute('aria-current');
    this.#current = index;
    this.#cells[index]?.setAttribute('tabindex', '0');
    this.#cells[index]?.setAttribute('aria-current', 'true');
    this.onSelect(index);
  }

  #onKey(event: KeyboardEvent): void {
    const columns = getComputedStyle(this.root).gridTemplateColumns.split(' ').length;
    const last = this.#cells.length - 1;
    const targets: Readonly<Record<string, number>> = {
      ArrowRight: this.#current + 1,
      ArrowLeft: this.#current - 1,
      ArrowDown: this.#current + columns,
      ArrowUp: this.#current - columns,
      Home: 0,
      End: last,
    };
    const target = targets[event.key];
    if (target === undefined || last < 0) return;
    event.preventDefault();
    this.select(Math.max(0, Math.min(last, target)));
    this.#cells[this.#current]?.focus();
  }
}
