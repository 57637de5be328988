// What the page needs of the recorded runs: the cases that it runs itself. Those of every form are two fifths of a record, and
// hashes do not shrink.

import { readFileSync } from 'node:fs';

const RECORD = /\/tests\/data\/records\/[^/]+\.json$/;
const OF_A_FORM = /^(?:nested-)?(?:zero|offset)-b?f16-/;

/** @returns {import('vite').Plugin} */
export function pageRecords() {
  return {
    name: 'page-records',
    enforce: 'pre',
    load(id) {
      if (!RECORD.test(id)) return null;
      const { cases, ...record } = JSON.parse(readFileSync(id, 'utf8'));
      const own = Object.entries(cases).filter(([name]) => !OF_A_FORM.test(name));
      return JSON.stringify({ ...record, cases: Object.fromEntries(own) });
    },
  };
}
