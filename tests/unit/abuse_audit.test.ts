// What `npm audit` says of the packages that samebits brings along, and that it would say it.

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { ranOn, skipWithout } from '../backend_report.js';

const root = resolve(import.meta.dirname, '../..');

interface Audit {
  readonly code: number;
  /** Package names; null when the registry gave no answer, for the reason beside it. */
  readonly vulnerable: readonly string[] | null;
  readonly reason: string;
}

function audit(...more: readonly string[]): Promise<Audit> {
  const args = ['audit', '--omit=dev', '--json', '--fetch-retries=0', '--fetch-timeout=30000', ...more];
  return new Promise((end) =>
    execFile('npm', args, { cwd: root, timeout: 60_000 }, (error, stdout, stderr) => {
      const code = typeof error?.code === 'number' ? error.code : error === null ? 0 : -1;
      const report = /^\{/.test(stdout) ? JSON.parse(stdout) : {};
      const vulnerable = report.auditReportVersion === 2 ? Object.keys(report.vulnerabilities) : null;
      end({ code, vulnerable, reason: report.message ?? (stderr.trim() || 'no answer') });
    }),
  );
}

test('npm audit finds nothing in what is installed with the package', async (context) => {
  const { code, vulnerable, reason } = await audit();
  if (vulnerable === null) skipWithout(context, 'audit (npm)', `the registry does not answer: ${reason}`);
  ranOn(context, 'audit (npm)', 'the registry');
  expect({ code, vulnerable }).toEqual({ code: 0, vulnerable: [] });
});

/** What a registry says of a package: the one version that is installed here. */
function packument(url: string) {
  const name = decodeURIComponent(url.slice(1));
  const { version } = JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8'));
  return { name, 'dist-tags': { latest: version }, versions: { [version]: { name, version, dist: {} } } };
}

/** A registry that knows these advisories, and what it was asked about. */
async function withRegistry<T>(
  status: number,
  advisories: object,
  use: (registry: string, asked: () => readonly string[]) => Promise<T>,
): Promise<T> {
  let asked: readonly string[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      if (request.url?.endsWith('/advisories/bulk')) {
        asked = Object.keys(
          JSON.parse(String(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body)),
        );
      }
      const answer = request.method === 'GET' ? packument(request.url ?? '') : advisories;
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  try {
    if (typeof address !== 'object' || address === null) throw new Error('the server has no port');
    return await use(`--registry=http://127.0.0.1:${address.port}`, () => asked);
  } finally {
    server.close();
  }
}

describe('the audit itself', () => {
  const ADVISORY = { id: 1, url: '', title: 'planted', severity: 'low', vulnerable_versions: '*', cwe: [], cvss: {} };

  test('asks for every package that is installed with samebits, and for no tool of its making', async () => {
    await withRegistry(200, {}, async (registry, asked) => {
      expect(await audit(registry)).toMatchObject({ code: 0, vulnerable: [] });
      expect(asked()).toEqual(expect.arrayContaining(['@noble/hashes', 'cli-progress', 'commander']));
      for (const tool of ['vite', 'vitest', 'typescript']) expect(asked()).not.toContain(tool);
    });
  });

  test('fails for an advisory against one of them', async () => {
    await withRegistry(200, { commander: [ADVISORY] }, async (registry) => {
      expect(await audit(registry)).toMatchObject({ code: 1, vulnerable: ['commander'] });
    });
  });

  test('has no verdict where the registry has none', async () => {
    await withRegistry(405, {}, async (registry) => {
      expect(await audit(registry)).toMatchObject({ vulnerable: null, reason: expect.stringContaining('405') });
    });
  });
});
