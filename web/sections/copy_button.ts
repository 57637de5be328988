// A button that copies text and says that it did.

import { element } from '../dom.js';

const SAID_FOR_MS = 2500;

export function copyButton(label: string, text: () => string): HTMLElement {
  const button = element('button', { type: 'button', class: 'secondary' }, label);
  const said = element('span', { class: 'quiet', role: 'log' });
  button.addEventListener('click', async () => {
    said.textContent = await copy(text());
    setTimeout(() => said.replaceChildren(), SAID_FOR_MS);
  });
  return element('div', { class: 'actions' }, button, said);
}

async function copy(text: string): Promise<string> {
  try {
    await navigator.clipboard.writeText(text);
    return 'Copied.';
  } catch {
    return 'The browser did not allow it; select the text below.';
  }
}
