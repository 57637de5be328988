// A web server for tests of the package in a browser: pages, the built package, and models served well or badly.

import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join, normalize } from 'node:path';

/** How a model's files are served: `/ranges/...` and so on. */
const MANNERS = ['ranges', 'ignores', 'changes', 'foreign', 'hidden'] as const;
type Manner = (typeof MANNERS)[number];

const ROOT = join(import.meta.dirname, '../..');
/** The import map makes of the package's bare names what a bundler would. */
const PAGE = `<!doctype html><title>samebits</title><script type="importmap">
{"imports": {"samebits": "/dist/web/index.js", "@noble/hashes/": "/node_modules/@noble/hashes/",
"@huggingface/jinja": "/node_modules/@huggingface/jinja/dist/index.js",
"@huggingface/tokenizers": "/node_modules/@huggingface/tokenizers/dist/tokenizers.mjs"}}</script>`;
/** Lets scripts run, but no WebAssembly. */
const STRICT = "script-src 'self' 'unsafe-inline'";

export interface ModelServer {
  /** Ends in /. */
  readonly url: string;
  close(): void;
}

/** @param models by path, `name/file` */
export async function serveModels(models: ReadonlyMap<string, Uint8Array>): Promise<ModelServer> {
  const asked = new Map<string, number>();
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '', 'http://host').pathname).slice(1);
    const [manner = '', ...rest] = path.split('/');
    const known = MANNERS.find((name) => name === manner);
    if (path === 'page' || path === 'strict') answerPage(response, path);
    else if (!known) answerFile(response, path);
    else {
      const count = asked.get(path) ?? 0;
      asked.set(path, count + 1);
      answerModel(response, request, known, models.get(rest.join('/')), count);
    }
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { url: `http://127.0.0.1:${portOf(server)}/`, close: () => server.close() };
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return address.port;
}

function answerPage(response: ServerResponse, path: 'page' | 'strict'): void {
  const policy = path === 'strict' ? { 'Content-Security-Policy': STRICT } : {};
  response.writeHead(200, { 'Content-Type': 'text/html', ...policy }).end(PAGE);
}

/** Of the built package and what it imports. */
function answerFile(response: ServerResponse, path: string): void {
  const inRoot = normalize(path);
  const file = join(ROOT, inRoot);
  const isOurs = /^(dist|node_modules\/@(?:noble|huggingface))\//.test(inRoot) && existsSync(file);
  if (!isOurs) response.writeHead(404).end();
  else response.writeHead(200, { 'Content-Type': 'text/javascript' }).end(readFileSync(file));
}

function answerModel(
  response: ServerResponse,
  request: IncomingMessage,
  manner: Manner,
  data: Uint8Array | undefined,
  count: number,
): void {
  const isForeign = manner === 'foreign' || manner === 'hidden';
  const cors = isForeign && { 'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Headers': 'Range' };
  const exposed = manner === 'foreign' && { 'Access-Control-Expose-Headers': 'Content-Range, ETag' };
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  if (request.method === 'OPTIONS') response.writeHead(204, { ...cors }).end();
  else if (!data) response.writeHead(404, { ...cors }).end();
  else if (manner === 'ignores' || first === undefined) response.writeHead(200).end(data);
  else {
    // The version after the header was read.
    const version = manner === 'changes' && count > 2 ? '"2"' : '"1"';
    const range = `bytes ${first}-${last}/${data.length}`;
    const headers = { 'Content-Range': range, ETag: version, ...cors, ...exposed };
    response.writeHead(206, headers).end(data.subarray(Number(first), Number(last) + 1));
  }
}
