// Finding, downloading, resuming and checking data files, against a server that misbehaves on request.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ArgumentError, FormatError } from '../../src/base/errors.ts';
import { type DownloadOptions, downloadFile } from '../../src/interface/data/download.ts';
import { DownloadError } from '../../src/interface/data/errors.ts';
import { mnist } from '../../src/interface/data/mnist.ts';
import { compose, normalize, toFloat } from '../../src/interface/data/transforms.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

let server: Server;
let base = '';
let handler: Handler;
/** The Range header of every request, in order. */
let ranges: (string | undefined)[] = [];
let folder = '';

beforeAll(async () => {
  server = createServer((request, response) => {
    ranges.push(request.headers.range);
    handler(request, response);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(async () => {
  ranges = [];
  folder = await mkdtemp(join(tmpdir(), 'tengen-data-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const content = Buffer.from(
  Uint8Array.from({ length: 100_000 }, (_, i) => Math.imul(i, 40503) >> 5),
);
const md5 = createHash('md5').update(content).digest('hex');

function options(more: Partial<DownloadOptions> = {}): DownloadOptions {
  return {
    urls: [`${base}/file`],
    path: join(folder, 'file'),
    md5,
    maxBytes: content.length,
    backoff: 1,
    ...more,
  };
}

/** Sends the file, or from where the client wants it. */
const withRanges: Handler = (request, response) => {
  const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (start >= content.length) {
    response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
    return;
  }
  response.writeHead(start > 0 ? 206 : 200, {
    'content-length': content.length - start,
    ...(start > 0
      ? { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` }
      : {}),
  });
  response.end(content.subarray(start));
};

/** Promises everything and breaks the connection after `count` bytes. */
function breakAfter(count: number): Handler {
  return (_request, response) => {
    response.writeHead(200, { 'content-length': content.length });
    // A moment later: what has not been read when a connection breaks is lost with it.
    response.write(content.subarray(0, count), () => setTimeout(() => response.destroy(), 50));
  };
}

async function failure(promise: Promise<unknown>): Promise<Error> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
}

describe('downloadFile', () => {
  it('fetches a file and reports progress', async () => {
    handler = withRanges;
    const seen: number[] = [];
    await downloadFile(
      options({
        onProgress: ({ receivedBytes, totalBytes }) => {
          expect(totalBytes).toBe(content.length);
          seen.push(receivedBytes);
        },
      }),
    );
    expect(await readFile(join(folder, 'file'))).toEqual(content);
    expect(await readdir(folder)).toEqual(['file']);
    expect(seen.at(-1)).toBe(content.length);
  });

  it('resumes a broken transfer where it stopped', async () => {
    let calls = 0;
    handler = (request, response) =>
      (calls++ === 0 ? breakAfter(60_000) : withRanges)(request, response);
    await downloadFile(options());
    expect(await readFile(join(folder, 'file'))).toEqual(content);
    expect(ranges).toHaveLength(2);
    expect(ranges[1]).toMatch(/^bytes=\d+-$/);
    expect(Number(ranges[1]?.slice(6, -1))).toBeGreaterThan(0);
  });

  it('starts again where the server knows no ranges', async () => {
    await writeFile(join(folder, 'file.part'), content.subarray(0, 5000));
    handler = (_request, response) => {
      response.writeHead(200).end(content);
    };
    await downloadFile(options());
    expect(ranges).toEqual(['bytes=5000-']);
    expect(await readFile(join(folder, 'file'))).toEqual(content);
  });

  it('keeps the part file when it gives up, and a later call goes on', async () => {
    handler = breakAfter(30_000);
    const error = await failure(downloadFile(options({ attempts: 1 })));
    expect(error).toBeInstanceOf(DownloadError);
    const kept = (await stat(join(folder, 'file.part'))).size;
    expect(kept).toBeGreaterThan(0);
    handler = withRanges;
    await downloadFile(options());
    expect(ranges.at(-1)).toBe(`bytes=${kept}-`);
    expect(await readFile(join(folder, 'file'))).toEqual(content);
  });

  it('takes a part that is complete, and drops one that is too long', async () => {
    handler = withRanges;
    await writeFile(join(folder, 'file.part'), content);
    await downloadFile(options());
    expect(ranges).toEqual([]);
    await rm(join(folder, 'file'));
    await writeFile(join(folder, 'file.part'), Buffer.concat([content, content]));
    await downloadFile(options());
    expect(await readFile(join(folder, 'file'))).toEqual(content);
  });

  it('fetches a corrupt file anew, from the next mirror', async () => {
    handler = (request, response) => {
      if (request.url === '/bad') response.end(Buffer.alloc(content.length));
      else withRanges(request, response);
    };
    await downloadFile(options({ urls: [`${base}/bad`, `${base}/good`] }));
    expect(await readFile(join(folder, 'file'))).toEqual(content);
    expect(ranges).toEqual([undefined, undefined]);
  });

  it('replaces a part file that is corrupt', async () => {
    handler = withRanges;
    await writeFile(join(folder, 'file.part'), Buffer.alloc(5000, 1));
    await downloadFile(options());
    expect(ranges).toEqual(['bytes=5000-', undefined]);
    expect(await readFile(join(folder, 'file'))).toEqual(content);
  });

  it('names every mirror, what it did, and the checksum', async () => {
    handler = (request, response) => {
      if (request.url === '/missing') response.writeHead(404).end('no such file');
      else response.end(Buffer.alloc(10));
    };
    const closed = 'http://127.0.0.1:1/file';
    const urls = [`${base}/missing`, `${base}/corrupt`, closed];
    const error = await failure(downloadFile(options({ urls, attempts: 2 })));
    expect(error).toBeInstanceOf(DownloadError);
    expect(error.message).toContain(`${base}/missing (HTTP 404 Not Found)`);
    expect(error.message).toContain(`${base}/corrupt (md5 is a63c90cc3684ad8b0a2176a6a8fe9005`);
    expect(error.message).toMatch(/127\.0\.0\.1:1\/file \(fetch failed/);
    expect(error.message).toContain(`expected md5 ${md5}`);
    expect(ranges).toHaveLength(4);
    expect(await readdir(folder)).toEqual([]);
  });

  it('refuses more bytes than the file has', async () => {
    let sent = 0;
    handler = (_request, response) => {
      response.on('error', () => undefined);
      const more = (): void => {
        sent += content.length;
        if (response.destroyed || sent > 1e9) return;
        response.write(content, more);
      };
      more();
    };
    const error = await failure(downloadFile(options({ attempts: 1 })));
    expect(error.message).toContain('more than the 100000 bytes');
    expect((await stat(join(folder, 'file.part'))).size).toBeLessThanOrEqual(content.length);
    expect(sent).toBeLessThan(1e8);
  });

  it('gives up a server that falls silent', async () => {
    handler = (_request, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 10));
    };
    const error = await failure(downloadFile(options({ attempts: 1, stallTimeout: 50 })));
    expect(error.message).toContain('no data for 50 ms');
  });

  it('stops at once when aborted, and keeps the part', async () => {
    const controller = new AbortController();
    handler = (_request, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 1000));
    };
    const reason = new Error('enough');
    const error = await failure(
      downloadFile(
        options({ signal: controller.signal, onProgress: () => controller.abort(reason) }),
      ),
    );
    expect(error).toBe(reason);
    expect((await stat(join(folder, 'file.part'))).size).toBe(1000);
    await expect(downloadFile(options({ signal: AbortSignal.abort(reason) }))).rejects.toBe(reason);
    expect(ranges).toHaveLength(1);
  });

  it('is aborted while it waits for the next attempt', async () => {
    handler = (_request, response) => {
      response.writeHead(503).end();
    };
    const start = performance.now();
    const signal = AbortSignal.timeout(50);
    const error = await failure(downloadFile(options({ signal, backoff: 60_000 })));
    expect(error.name).toBe('TimeoutError');
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it('does not blame a mirror for a folder that is not there', async () => {
    handler = withRanges;
    const error = await failure(downloadFile(options({ path: join(folder, 'no', 'file') })));
    expect(error).not.toBeInstanceOf(DownloadError);
    expect(error).toMatchObject({ code: 'ENOENT' });
  });
});

function idxImages(count: number, height = 28): Uint8Array {
  const bytes = new Uint8Array(16 + count * height * 28);
  bytes.set([0, 0, 8, 3]);
  const view = new DataView(bytes.buffer);
  [count, height, 28].forEach((size, axis) => view.setUint32(4 + 4 * axis, size));
  for (let i = 16; i < bytes.length; i++) bytes[i] = (i * 7) & 255;
  return bytes;
}

function idxLabels(labels: number[]): Uint8Array {
  const bytes = new Uint8Array(8 + labels.length);
  bytes.set([0, 0, 8, 1, 0, 0, 0, labels.length]);
  bytes.set(labels, 8);
  return bytes;
}

describe('datasets.mnist', () => {
  it.each([
    ['plain', '', 'train-images-idx3-ubyte', 'train-labels-idx1-ubyte', (b: Uint8Array) => b],
    ['gzipped', '', 'train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz', gzipSync],
    ['with dots', '', 'train-images.idx3-ubyte', 'train-labels.idx1-ubyte', (b: Uint8Array) => b],
    [
      'as torchvision keeps them',
      'MNIST/raw',
      'train-images-idx3-ubyte',
      'train-labels-idx1-ubyte.gz',
      (b: Uint8Array) => b,
    ],
  ])('uses files of any number of images, %s', async (_name, inner, images, labels, pack) => {
    await mkdir(join(folder, inner), { recursive: true });
    await writeFile(join(folder, inner, images), pack(idxImages(3)));
    await writeFile(join(folder, inner, labels), pack(idxLabels([5, 0, 9])));
    const set = await mnist({ root: folder });
    expect(set.length).toBe(3);
    expect(set.imageShape).toEqual([1, 28, 28]);
    const [image, label] = set.get(2);
    expect(label).toBe(9);
    expect(image.shape).toEqual([1, 28, 28]);
    expect(image.data[0]).toBe(((16 + 2 * 784) * 7) & 255);
    const [batch, batchLabels] = set.withTransform(toFloat()).getBatch([2, 0]);
    expect(batch.shape).toEqual([2, 1, 28, 28]);
    expect(batchLabels).toEqual({ data: Int32Array.of(9, 5), shape: [2], dtype: 'int32' });
  });

  it('says what is missing', async () => {
    const error = await failure(mnist({ root: folder, split: 'test' }));
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).toContain(`t10k-images-idx3-ubyte[.gz] is not in ${folder}`);
    expect(error.message).toContain('download: true');
  });

  it('checks that files are whole and belong together', async () => {
    const images = join(folder, 'train-images-idx3-ubyte');
    const labels = join(folder, 'train-labels-idx1-ubyte');
    await writeFile(images, idxImages(3).subarray(0, 1000));
    await writeFile(labels, idxLabels([1, 2]));
    let error = await failure(mnist({ root: folder }));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(/train-images-idx3-ubyte: truncated IDX file.*\(at byte 1000\)/);
    expect(error).toMatchObject({ offset: 1000 });
    await writeFile(images, idxImages(3));
    error = await failure(mnist({ root: folder }));
    expect(error.message).toMatch(/has 3 images, .* has 2 labels/);
    await writeFile(labels, idxLabels([1, 2, 10]));
    error = await failure(mnist({ root: folder }));
    expect(error).toMatchObject({ offset: 10 });
    expect(error.message).toContain('label 10 of image 2');
    await writeFile(images, idxLabels([1]));
    error = await failure(mnist({ root: folder }));
    expect(error.message).toContain('holds uint8 [1], expected images');
  });

  it('downloads what is missing, and names mirror and checksum if it is not the published file', async () => {
    const asked: (string | undefined)[] = [];
    handler = (request, response) => {
      asked.push(request.url);
      response.end(gzipSync(idxImages(1)));
    };
    const root = join(folder, 'new', 'folder');
    const error = await failure(
      mnist({ root, download: true, mirror: `${base}/mirror`, attempts: 2, backoff: 1 }),
    );
    expect(error).toBeInstanceOf(DownloadError);
    expect(error.message).toContain(`${base}/mirror/train-images-idx3-ubyte.gz (md5 is`);
    expect(error.message).toContain('expected md5 f68b3c2dcbeaaa9fbdd348bbdeb94873');
    // It was deleted: there is nothing to resume.
    expect(error.message).toContain('hint: give another mirror, or put the file there yourself');
    expect(asked).toEqual(Array(2).fill('/mirror/train-images-idx3-ubyte.gz'));
  });

  it('reads from an address', async () => {
    handler = (request, response) => {
      response.end(
        gzipSync(request.url?.includes('images') === true ? idxImages(2) : idxLabels([1, 2])),
      );
    };
    const set = await mnist({ root: base });
    expect([...set.labels]).toEqual([1, 2]);
  });

  it('gives the same pixels one by one and in batches, by table and without', async () => {
    await writeFile(join(folder, 'train-images-idx3-ubyte'), idxImages(4));
    await writeFile(join(folder, 'train-labels-idx1-ubyte'), idxLabels([1, 2, 3, 4]));
    const transform = compose(toFloat(), normalize(0.1307, 0.3081));
    const set = await mnist({ root: folder, transform });
    const [batch] = set.getBatch([3, 1]);
    const rows = [3, 1].map((index) => set.get(index)[0].data as Float32Array);
    expect(batch.data).toEqual(Float32Array.from(rows.flatMap((row) => [...row])));
    const slow = set.withTransform((image, random) => transform(image, random));
    expect(slow.getBatch([3, 1])).toEqual(set.getBatch([3, 1]));
    expect(set.withTransform(undefined).getBatch([1])[0].dtype).toBe('uint8');
  });
});
