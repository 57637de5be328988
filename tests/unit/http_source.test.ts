// Checkpoints on a web server, read by ranges: from a good server the same bytes as from disk, from any other a typed error.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import {
  httpFolder,
  MemorySink,
  openHttpSource,
  openModelCheckpoint,
  planConversion,
  runConversion,
  type SourceFolder,
} from '../../core/index.js';
import { fileFolder, locateModel } from '../../node/file_source.js';
import { refusal } from './checkpoint_bytes.js';

const MODEL = join(import.meta.dirname, '../data/gemma4-kjv-6m');
const DATA = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);

/** What a server does with the n-th request for `bytes first-last` of `data`. */
type Answer = (response: ServerResponse, range: Range, request: IncomingMessage) => void;

interface Range {
  readonly first: number;
  readonly last: number;
  readonly count: number;
  readonly data: Uint8Array;
}

let server: Server | undefined;

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** Starts a server; gives the URL of its root. */
async function serve(answer: Answer, files: Readonly<Record<string, Uint8Array>> = { 'data.bin': DATA }) {
  let count = 0;
  server = createServer((request, response) => {
    const data = files[decodeURIComponent(request.url ?? '').replace(/^\/|\?.*$/g, '')];
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (data === undefined) response.writeHead(404).end();
    else if (data.length === 0) response.writeHead(416, { 'Content-Range': 'bytes */0' }).end();
    else answer(response, { first: Number(first), last: Number(last), count: count++, data }, request);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return `http://127.0.0.1:${address.port}/`;
}

const contentRange = ({ first, last, data }: Range) => `bytes ${first}-${last}/${data.length}`;

const well: Answer = (response, range) => {
  const { first, last, data } = range;
  response.writeHead(206, { 'Content-Range': contentRange(range), ETag: '"1"' }).end(data.subarray(first, last + 1));
};

/** Opens well; every later request is answered otherwise. */
const later =
  (answer: Answer): Answer =>
  (response, range, request) =>
    (range.count === 0 ? well : answer)(response, range, request);

describe('a server that serves ranges', () => {
  test('gives any bytes, one request for each read', async () => {
    const asked: string[] = [];
    const url = await serve((response, range, request) => {
      asked.push(String(request.headers.range));
      well(response, range, request);
    });
    const source = await openHttpSource(`${url}data.bin`);
    expect(source.sizeBytes).toBe(1000);
    expect(source.name).toBe(`${url}data.bin`);
    for (const [offset, length] of [
      [0, 1000],
      [999, 1],
      [17, 500],
      [1000, 0],
    ] as const) {
      expect(await source.read(offset, length)).toEqual(DATA.slice(offset, offset + length));
    }
    expect(asked).toEqual(['bytes=0-0', 'bytes=0-999', 'bytes=999-999', 'bytes=17-516']);
  });

  test('fills the memory that it is given', async () => {
    const source = await openHttpSource(`${await serve(well)}data.bin`);
    const into = new Uint8Array(100).fill(255);
    const bytes = await source.read(10, 20, into);
    expect(bytes.buffer).toBe(into.buffer);
    expect(bytes).toEqual(DATA.slice(10, 30));
    expect(into.subarray(20)).toEqual(new Uint8Array(80).fill(255));
  });

  test('an empty file has no bytes', async () => {
    const source = await openHttpSource(`${await serve(well, { 'data.bin': new Uint8Array() })}data.bin`);
    expect(source.sizeBytes).toBe(0);
    expect(await source.read(0, 0)).toHaveLength(0);
  });

  test('headers are sent, and a query is kept but not told', async () => {
    const seen: (string | undefined)[] = [];
    const url = await serve((response, range, request) => {
      seen.push(request.url, request.headers.authorization);
      well(response, range, request);
    });
    const folder = httpFolder(`${url}?key=secret`, { headers: { Authorization: 'Bearer it' } });
    const source = await folder.open('data.bin');
    expect(seen).toEqual(['/data.bin?key=secret', 'Bearer it']);
    expect([folder.name, source?.name]).toEqual([url, `${url}data.bin`]);
  });

  test('a model is converted to the same bytes as from disk', async () => {
    const convert = async (folder: SourceFolder) => {
      const model = await openModelCheckpoint(folder);
      const sink = new MemorySink();
      await runConversion(await planConversion(model), sink);
      await model.close();
      return sink.bytes;
    };
    const files = Object.fromEntries(
      ['model.safetensors', 'config.json', 'tokenizer.json', 'tokenizer_config.json'].map((name) => [
        name,
        Uint8Array.from(readFileSync(join(MODEL, name))),
      ]),
    );
    const url = await serve(well, files);
    expect(Buffer.compare(await convert(httpFolder(url)), await convert(fileFolder(MODEL)))).toBe(0);
  });

  test('the command takes a URL, of a file or of a folder', async () => {
    const url = await serve(well, { 'a model.gguf': DATA });
    const { folder, entry } = await locateModel(`${url}a%20model.gguf`);
    expect(entry).toBe('a model.gguf');
    expect((await folder.open('a model.gguf'))?.sizeBytes).toBe(1000);
    expect((await locateModel(url)).entry).toBeUndefined();
  });
});

describe('is refused', () => {
  const open = async (answer: Answer) => openHttpSource(`${await serve(answer)}data.bin`);
  const read = async (answer: Answer) => (await open(later(answer))).read(100, 200);
  const range =
    (headers: Readonly<Record<string, string>>, status = 206): Answer =>
    (response, asked) =>
      response
        .writeHead(status, { 'Content-Range': contentRange(asked), ETag: '"1"', ...headers })
        .end(DATA.subarray(asked.first, asked.last + 1));

  const whole: Answer = (response) => response.writeHead(200, { ETag: '"1"' }).end(DATA);
  const unranged: Answer = (response, { first, last }) => response.writeHead(206).end(DATA.subarray(first, last + 1));
  const OPENING: readonly [string, Answer, RegExp][] = [
    ['a server that ignores ranges', whole, /ignores ranges/],
    ['a response without Content-Range', unranged, /Access-Control-Expose-Headers/],
    ['a size that is not told', range({ 'Content-Range': 'bytes 0-0/*' }), /bytes 0-0\/\*/],
    ['a size beyond 2^53', range({ 'Content-Range': 'bytes 0-0/9007199254740993' }), /9007199254740993/],
    ['a server that fails', (response) => response.writeHead(503).end(), /503/],
    ['a file that is forbidden', (response) => response.writeHead(403).end(), /403/],
    ['a connection that is closed', (response) => response.destroy(), /Check the URL and the connection/],
  ];
  test.each(OPENING)('%s', async (_, answer, message) => {
    const error = await refusal(() => open(answer));
    expect(error.code).toBe('FILE_UNREADABLE');
    expect(error.message).toMatch(message);
  });

  const READING: readonly [string, Answer, RegExp][] = [
    ['a server that begins to ignore ranges', whole, /ignores ranges/],
    ['another range than the one asked for', range({ 'Content-Range': 'bytes 0-199/1000' }), /bytes 0-199/],
    ['a file that changed, by its ETag', range({ ETag: '"2"' }), /must not change while it is read.*"1".*"2"/],
    [
      'a file that changed, by its date',
      range({ 'Last-Modified': 'Thu, 01 Jan 2026 00:00:00 GMT' }),
      /must not change/,
    ],
    ['a file that changed, by its size', range({ 'Content-Range': 'bytes 100-299/1001' }), /1001 bytes/],
    ['a file that has gone', (response) => response.writeHead(404).end(), /404/],
    ['a file that shrank below the range', (response) => response.writeHead(416).end(), /416/],
    [
      'more bytes than were asked for',
      (response, asked) => response.writeHead(206, { 'Content-Range': contentRange(asked), ETag: '"1"' }).end(DATA),
      /at least \d+ bytes/,
    ],
    [
      'a connection that breaks off',
      (response, asked) => {
        response.writeHead(206, { 'Content-Range': contentRange(asked), 'Content-Length': 200, ETag: '"1"' });
        response.write(DATA.subarray(100, 150), () => response.destroy());
      },
      /Check the URL and the connection/,
    ],
  ];
  test.each(READING)('%s', async (_, answer, message) => {
    const error = await refusal(() => read(answer));
    expect(error.code).toBe('FILE_UNREADABLE');
    expect(error.message).toMatch(message);
  });

  test('a body that is too short', async () => {
    const short: Answer = (response, asked) =>
      response
        .writeHead(206, { 'Content-Range': contentRange(asked), ETag: '"1"' })
        .end(DATA.subarray(asked.first, asked.last));
    const error = await refusal(() => read(short));
    expect(error.code).toBe('FILE_TRUNCATED');
    expect(error.message).toContain('199 bytes');
  });

  test('a file that is not there; in a folder it is undefined', async () => {
    const url = await serve(well);
    expect((await refusal(() => openHttpSource(`${url}other.bin`))).code).toBe('FILE_UNREADABLE');
    expect(await httpFolder(url).open('other.bin')).toBeUndefined();
  });

  test('a range beyond the file, without asking', async () => {
    let requests = 0;
    const source = await open((response, asked, request) => {
      requests++;
      well(response, asked, request);
    });
    expect((await refusal(() => source.read(990, 11))).code).toBe('FILE_TRUNCATED');
    expect(requests).toBe(1);
  });

  test('a folder that is no URL', async () => {
    expect((await refusal(() => httpFolder('model/'))).code).toBe('ARGUMENT_INVALID');
  });
});

test('an abort ends a read with its reason', async () => {
  const controller = new AbortController();
  const reason = new Error('enough');
  const url = await serve(later(() => controller.abort(reason)));
  const source = await openHttpSource(`${url}data.bin`, { signal: controller.signal });
  await expect(source.read(0, 10)).rejects.toBe(reason);
});
