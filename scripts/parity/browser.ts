// Headless Chromium as a place to run models: a worker with `tengen/lite`, as an application bundles it.
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Browser, chromium, type Page } from 'playwright-core';
import { bundleForBrowser, installedBrowser } from '../browser-bundle.ts';
import { root } from '../entries.ts';
import { base64 } from './answer.ts';
import type { Place } from './places.ts';

const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking'];

/** The worker, as one file `/worker.js`. */
function bundle(): Promise<Map<string, string>> {
  const entry = { worker: `${root}scripts/parity/worker.ts` };
  return bundleForBrowser(entry, { outputOptions: { codeSplitting: false } });
}

/** Serves the worker and the models on the loopback, cross-origin isolated: threads share memory. */
async function serve(files: ReadonlyMap<string, string | Uint8Array>): Promise<Server> {
  const server = createServer((request, response) => {
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    const path = request.url ?? '/';
    const file = path === '/' ? '<!doctype html><title>Tengen</title>' : files.get(path);
    if (file === undefined) response.statusCode = 404;
    const type = path === '/' ? 'text/html' : 'text/javascript';
    response.setHeader(
      'Content-Type',
      file instanceof Uint8Array ? 'application/octet-stream' : type,
    );
    response.end(file ?? '');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

interface Session {
  readonly browser: Browser;
  readonly server: Server;
  readonly page: Page;
  readonly files: Map<string, string | Uint8Array>;
}

async function open(executablePath: string): Promise<Session> {
  const files = new Map<string, string | Uint8Array>(await bundle());
  const server = await serve(files);
  const browser = await chromium.launch({ executablePath, args: ARGUMENTS });
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  return { browser, server, page, files };
}

/** A worker of its own for each question. */
function ask(page: Page, question: object): Promise<{ answer?: string; error?: string }> {
  return page.evaluate<{ answer?: string; error?: string }>(`new Promise((resolve) => {
    const worker = new Worker('/worker.js', { type: 'module' });
    const done = (message) => { worker.terminate(); resolve(message); };
    worker.onerror = (event) => done({ error: 'worker: ' + event.message });
    worker.onmessage = ({ data }) => done(data);
    worker.postMessage(${JSON.stringify(question)});
  })`);
}

/** Chromium with one thread and with two; both use one browser, which the first closes. */
export function browserPlaces(): Place[] {
  const path = installedBrowser();
  let session: Promise<Session> | null = null;
  const place = (threads: number): Place => ({
    name: `Chromium, wasm, ${threads === 1 ? '1 thread' : `${threads} threads`}`,
    missing: path === undefined ? 'no browser is installed' : null,
    async outputs({ id, path: file, x, shape }, numerics) {
      session ??= open(path as string);
      const { page, files } = await session;
      files.set(`/${id}.tengen`, readFileSync(file));
      const bytes = new Uint8Array(x.buffer, x.byteOffset, x.byteLength);
      const options = { device: 'wasm', threads, numerics };
      const source = new URL(`/${id}.tengen`, page.url()).href;
      const { answer, error } = await ask(page, { source, x: base64(bytes), shape, options });
      if (answer === undefined) throw new Error(error ?? 'no answer');
      return new Uint8Array(Buffer.from(answer, 'base64'));
    },
    async close() {
      const opened = await session?.catch(() => null);
      session = null;
      await opened?.browser.close();
      opened?.server.close();
    },
  });
  return [place(1), place(2)];
}
