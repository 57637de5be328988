// A file on a web server as a source of checkpoint bytes: every read is one request for a range, and nothing else is fetched.

import { SamebitsError } from '../errors.js';
import { checkRange, type RandomAccessSource, type SourceFolder } from './source.js';

export interface HttpOptions {
  /** Of every request, for example an authorization. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends every request, and the read that waits for it, with its reason. */
  readonly signal?: AbortSignal;
}

/** What tells one version of a file from the next. */
interface Version {
  readonly sizeBytes: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

/**
 * Opens a file by its URL. In a browser, a server of another origin must expose Content-Range, and should expose ETag.
 * @throws SamebitsError FILE_UNREADABLE when it cannot be fetched or the server does not serve ranges; the reason of
 * `options.signal`
 */
export async function openHttpSource(url: string, options: HttpOptions = {}): Promise<RandomAccessSource> {
  const source = await openIfFound(url, options);
  if (source) return source;
  throw unreadable(url, 'a file', '404, no such file', 'Check the URL.');
}

/**
 * The files below a URL as a folder: `https://host/model/` and its model.safetensors. A query is kept for every file.
 * @throws SamebitsError ARGUMENT_INVALID when `baseUrl` is no absolute URL
 */
export function httpFolder(baseUrl: string, options: HttpOptions = {}): SourceFolder {
  if (!URL.canParse(baseUrl)) {
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: 'a folder on a web server must be given by its URL',
      expected: 'an absolute URL that ends in /',
      got: baseUrl,
      fix: 'Begin with https://.',
    });
  }
  return {
    name: nameOf(baseUrl),
    open: (fileName) => {
      const url = new URL(encodeURIComponent(fileName), baseUrl);
      url.search = new URL(baseUrl).search;
      return openIfFound(url.href, options);
    },
  };
}

async function openIfFound(url: string, options: HttpOptions): Promise<RandomAccessSource | undefined> {
  const response = await request(url, options, 0, 1);
  if (response.status === 404) {
    await response.body?.cancel();
    return undefined;
  }
  // No byte can be asked of an empty file.
  const isEmpty = response.status === 416 && response.headers.get('content-range') === 'bytes */0';
  const sizeBytes = isEmpty ? 0 : await refuseOther(url, response, 0, 1);
  await response.body?.cancel();
  return new HttpSource(url, options, versionOf(response, sizeBytes));
}

class HttpSource implements RandomAccessSource {
  readonly name: string;

  constructor(
    private readonly url: string,
    private readonly options: HttpOptions,
    private readonly version: Version,
  ) {
    this.name = nameOf(url);
  }

  get sizeBytes(): number {
    return this.version.sizeBytes;
  }

  async read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this.name, this.sizeBytes, offset, length);
    const bytes = into ? into.subarray(0, length) : new Uint8Array(length);
    if (length === 0) return bytes;
    const response = await request(this.url, this.options, offset, length);
    const sizeBytes = await refuseOther(this.url, response, offset, length);
    await this.#refuseChanged(response, versionOf(response, sizeBytes));
    await this.#fill(bytes, response, offset);
    return bytes;
  }

  async close(): Promise<void> {}

  /** Compared here rather than sent as If-Range, for which browsers would ask other origins beforehand, every time. */
  async #refuseChanged(response: Response, version: Version): Promise<void> {
    const { sizeBytes, etag, lastModified } = this.version;
    const isSame = version.sizeBytes === sizeBytes && version.etag === etag && version.lastModified === lastModified;
    if (isSame) return;
    await response.body?.cancel();
    throw new SamebitsError('FILE_UNREADABLE', {
      rule: `${this.name} must not change while it is read`,
      expected: describe(this.version),
      got: describe(version),
      fix: 'Open it again.',
    });
  }

  async #fill(bytes: Uint8Array, response: Response, offset: number): Promise<void> {
    let done = 0;
    try {
      const reader = response.body?.getReader();
      for (let chunk = await reader?.read(); chunk && !chunk.done; chunk = await reader?.read()) {
        if (done + chunk.value.length > bytes.length) {
          done += chunk.value.length;
          await reader?.cancel();
          break;
        }
        bytes.set(chunk.value, done);
        done += chunk.value.length;
      }
    } catch (error) {
      throw failed(this.url, this.options.signal, error);
    }
    if (done > bytes.length) {
      const got = `at least ${done} bytes`;
      throw unreadable(this.url, `${bytes.length} bytes, the range that was asked for`, got, SERVER);
    }
    if (done < bytes.length) {
      throw new SamebitsError('FILE_TRUNCATED', {
        rule: `a response for ${this.name} must be whole`,
        expected: `${bytes.length} bytes from ${offset}`,
        got: `${done} bytes`,
        fix: 'The connection or a proxy cut it short; try again.',
      });
    }
  }
}

const SERVER = 'Use a server that answers range requests, or download the file and open it from disk.';

function request(url: string, { headers, signal }: HttpOptions, offset: number, length: number): Promise<Response> {
  return fetch(url, {
    headers: { ...headers, Range: `bytes=${offset}-${offset + length - 1}` },
    cache: 'no-store',
    ...(signal && { signal }),
  }).catch((error: unknown) => {
    throw failed(url, signal, error);
  });
}

/** The file's size by the response, which must be the range that was asked for. */
async function refuseOther(url: string, response: Response, offset: number, length: number): Promise<number> {
  const { status, statusText, headers } = response;
  const range = headers.get('content-range');
  const [, first, last, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(range ?? '') ?? [];
  const isAsked = Number(first) === offset && Number(last) === offset + length - 1;
  if (status === 206 && isAsked && Number.isSafeInteger(Number(size))) return Number(size);
  await response.body?.cancel();
  if (status === 200) {
    throw unreadable(url, '206, a part of the file', '200, the whole file: the server ignores ranges', SERVER);
  }
  if (status !== 206) {
    throw unreadable(url, '206, a part of the file', `${status} ${statusText}`.trim(), 'Check the URL and the server.');
  }
  const expected = `Content-Range: bytes ${offset}-${offset + length - 1}/size`;
  if (range !== null) throw unreadable(url, expected, `Content-Range: ${range}`, SERVER);
  const fix =
    'The server must send Content-Range, and expose it (Access-Control-Expose-Headers) to pages of other origins.';
  throw unreadable(url, expected, 'no Content-Range', fix);
}

function versionOf({ headers }: Response, sizeBytes: number): Version {
  return { sizeBytes, etag: headers.get('etag'), lastModified: headers.get('last-modified') };
}

function describe({ sizeBytes, etag, lastModified }: Version): string {
  return [`${sizeBytes} bytes`, etag ?? [], lastModified ?? []].flat().join(', ');
}

/** What a request that did not end well becomes: the reason of an abort, or a refusal. */
function failed(url: string, signal: AbortSignal | undefined, cause: unknown): unknown {
  if (signal?.aborted) return signal.reason;
  const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return new SamebitsError('FILE_UNREADABLE', {
    rule: `${nameOf(url)} must be readable`,
    expected: 'a response',
    got: reason instanceof Error ? reason.message : String(reason),
    fix: 'Check the URL and the connection; a page may read other origins only when they allow it (CORS).',
    cause,
  });
}

function unreadable(url: string, expected: string, got: string, fix: string): SamebitsError {
  const rule = `${nameOf(url)} must be readable in parts`;
  return new SamebitsError('FILE_UNREADABLE', { rule, expected, got, fix });
}

/** Without the query, which may hold what nobody else should read. */
function nameOf(url: string): string {
  return url.replace(/[?#].*$/s, '');
}
