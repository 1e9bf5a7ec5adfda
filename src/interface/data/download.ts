// Fetching a file from one of several mirrors: resumed where it stopped, checked, tried again.
import type { FileHandle } from 'node:fs/promises';
import { DownloadError } from './errors.ts';

/** How far a download has come. */
export interface DownloadProgress {
  readonly url: string;
  readonly file: string;
  readonly receivedBytes: number;
  /** `undefined` if the server does not say. */
  readonly totalBytes: number | undefined;
}

/** What to fetch, and how patiently. */
export interface DownloadOptions {
  /** The same file on several servers, tried in this order. */
  readonly urls: readonly string[];
  /** Where it goes. Until it is complete and checked it is `path + '.part'`. */
  readonly path: string;
  /** MD5 of the whole file in hexadecimal. */
  readonly md5: string;
  /** More bytes than this are refused. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Rounds over all mirrors. Default 3. */
  readonly attempts?: number | undefined;
  /** Milliseconds before the second round; doubled for each further one. Default 1000. */
  readonly backoff?: number | undefined;
  /** Milliseconds without a byte after which a server is given up. Default 30,000. */
  readonly stallTimeout?: number | undefined;
}

/** What went wrong with one mirror. */
class MirrorError extends Error {
  override name = 'MirrorError';
}

/**
 * Downloads a file into `path`. What has arrived stays in a `.part` file, and the next attempt, or the
 * next call, asks only for the rest if the server can do that. A file with the wrong checksum is
 * deleted and fetched anew.
 *
 * @throws DownloadError that names every mirror with its failure, and the checksum expected.
 * @throws the signal's reason if it is aborted; the `.part` file stays.
 */
export async function downloadFile(options: DownloadOptions): Promise<void> {
  const { urls, path, signal, attempts = 3, backoff = 1000 } = options;
  const failures = new Map<string, string>();
  let cause: unknown;
  for (let attempt = 0; attempt < attempts; attempt++) {
    if (attempt > 0) await pause(backoff * 2 ** (attempt - 1), signal);
    for (const url of urls) {
      signal?.throwIfAborted();
      try {
        await fetchFrom(url, options);
        return;
      } catch (error) {
        signal?.throwIfAborted();
        // A full disk or a missing folder is not the mirror's fault.
        if (!(error instanceof MirrorError)) throw error;
        failures.set(url, error.message);
        cause = error;
      }
    }
  }
  // A file with the wrong checksum was deleted: there is nothing to resume.
  const { stat } = await import('node:fs/promises');
  const kept = await stat(`${path}.part`).then(
    () => true,
    () => false,
  );
  const again = kept ? `call again to resume (what has arrived stays in ${path}.part), ` : '';
  const list = [...failures].map(([url, reason]) => `${url} (${reason})`).join('; ');
  throw new DownloadError(
    `${path} could not be fetched in ${attempts} attempt(s) from ${list || 'no mirror'}; expected md5 ${options.md5}`,
    {
      hint: `${again}give another mirror, or put the file there yourself`,
      cause,
    },
  );
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

async function fetchFrom(url: string, options: DownloadOptions): Promise<void> {
  const fs = await import('node:fs/promises');
  const part = `${options.path}.part`;
  const have = await fs.stat(part).then(
    (stats) => stats.size,
    () => 0,
  );
  // A part that is already complete (the last run ended before the rename) needs only the check.
  const complete = have > 0 && (await md5OfFile(part)) === options.md5;
  if (!complete) {
    await receive(url, part, have, options);
    const md5 = await md5OfFile(part);
    if (md5 !== options.md5) {
      await fs.rm(part, { force: true });
      throw new MirrorError(`md5 is ${md5}, expected ${options.md5}`);
    }
  }
  await fs.rename(part, options.path);
}

/** Appends to the part file what the server sends, or starts it anew if it sends everything. */
async function receive(
  url: string,
  part: string,
  have: number,
  options: DownloadOptions,
): Promise<void> {
  const { open } = await import('node:fs/promises');
  const stall = new StallGuard(options.stallTimeout ?? 30_000, options.signal);
  try {
    const response = await request(url, have, stall.signal);
    const start = resumePoint(response, have);
    if (start === undefined) {
      await response.body?.cancel();
      if (response.status === 416) {
        // The part is longer than the file, so it is not a part of it.
        const { rm } = await import('node:fs/promises');
        await rm(part, { force: true });
      }
      throw new MirrorError(`HTTP ${response.status} ${response.statusText}`.trim());
    }
    const handle = await open(part, start > 0 ? 'r+' : 'w');
    try {
      await store(response, handle, start, url, stall, options);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (stall.stalled) throw new MirrorError(`no data for ${stall.timeout} ms`);
    throw error;
  } finally {
    stall.stop();
  }
}

async function request(url: string, have: number, signal: AbortSignal): Promise<Response> {
  // Compressed transfer would hide the file's own bytes and lengths.
  const headers = new Headers({ 'accept-encoding': 'identity' });
  if (have > 0) headers.set('range', `bytes=${have}-`);
  try {
    return await fetch(url, { signal, headers });
  } catch (error) {
    // fetch() reports every network failure as a TypeError, with the reason below it.
    if (!(error instanceof TypeError)) throw error;
    const { cause } = error;
    const code = typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : '';
    throw new MirrorError(`${error.message} ${String(code)}`.trim(), { cause: error });
  }
}

/** Where the answer's bytes belong, or `undefined` if it is of no use. */
function resumePoint(response: Response, have: number): number | undefined {
  if (response.status === 200) return 0;
  if (response.status !== 206 || have === 0) return undefined;
  const range = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '');
  return range !== null && Number(range[1]) === have ? have : undefined;
}

async function store(
  response: Response,
  handle: FileHandle,
  start: number,
  url: string,
  stall: StallGuard,
  options: DownloadOptions,
): Promise<void> {
  const length = Number(response.headers.get('content-length') ?? Number.NaN);
  const totalBytes = Number.isFinite(length) ? start + length : undefined;
  let receivedBytes = start;
  for await (const chunk of chunks(response)) {
    stall.touch();
    if (receivedBytes + chunk.byteLength > options.maxBytes) {
      throw new MirrorError(`more than the ${options.maxBytes} bytes that the file may have`);
    }
    let written = 0;
    while (written < chunk.byteLength) {
      const place = receivedBytes + written;
      written += (await handle.write(chunk, written, chunk.byteLength - written, place))
        .bytesWritten;
    }
    receivedBytes += chunk.byteLength;
    options.onProgress?.({ url, file: options.path, receivedBytes, totalBytes });
  }
  await handle.truncate(receivedBytes);
  await handle.sync();
  if (totalBytes !== undefined && receivedBytes !== totalBytes) {
    throw new MirrorError(`ended after ${receivedBytes} of ${totalBytes} bytes`);
  }
}

async function* chunks(response: Response): AsyncGenerator<Uint8Array, void> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (cause) {
    throw cause instanceof TypeError ? new MirrorError('the connection broke', { cause }) : cause;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Aborts a transfer in which nothing moves. */
class StallGuard {
  readonly timeout: number;
  stalled = false;
  private readonly controller = new AbortController();
  private readonly outer: AbortSignal | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(timeout: number, outer: AbortSignal | undefined) {
    this.timeout = timeout;
    this.outer = outer;
    outer?.addEventListener('abort', this.onOuterAbort, { once: true });
    this.touch();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  private readonly onOuterAbort = (): void => this.controller.abort(this.outer?.reason);

  /** Something moved. */
  touch(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.stalled = true;
      this.controller.abort();
    }, this.timeout);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.outer?.removeEventListener('abort', this.onOuterAbort);
  }
}

async function md5OfFile(path: string): Promise<string> {
  const { createHash } = await import('node:crypto');
  const { createReadStream } = await import('node:fs');
  const hash = createHash('md5');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}
