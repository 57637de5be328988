// Builds DOM elements in one expression.

type Attributes = Readonly<Record<string, string | number | boolean>>;

/** `element('p', { class: 'quiet' }, 'text', child)`; an attribute of false is left out, one of true is empty. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(name, value === true ? '' : String(value));
  }
  made.append(...children);
  return made;
}

/** A section of the page: its root, which carries the state as data attributes, and what the module fills. */
export interface SectionParts {
  readonly root: HTMLElement;
  readonly body: HTMLElement;
}

/** The section of that id in index.html. */
export function sectionParts(id: string): SectionParts {
  const root = document.getElementById(id);
  const body = root?.querySelector<HTMLElement>('.body');
  if (!root || !body) throw new Error(`index.html has no section #${id} with a .body`);
  return { root, body };
}
