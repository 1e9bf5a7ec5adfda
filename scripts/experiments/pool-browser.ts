// Experiment 4 in Chromium: the same measurements in a cross-origin-isolated page and in a worker
// of that page, and what a page's main thread may and may not do.
//   npx tsx scripts/experiments/pool-browser.ts [/usr/bin/chromium]     (prints JSON lines)
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import type { Page } from 'playwright-core';
import ts from 'typescript';
import { WEB_WORKER_SOURCE } from '../../src/runtime/workers.ts';
import { besideBusyProcess, print } from './pool.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const WORKER_SCRIPT = `
import { measurePool } from '/scripts/experiments/pool-measure.ts';
self.onmessage = async ({ data }) => self.postMessage(await measurePool(data.place, data.busy));
`;

/** Serves the repository's TypeScript as JavaScript, cross-origin isolated or not. */
function serve(isolated: boolean, policy?: string): Promise<Server> {
  const server = createServer((request, response) => {
    const path = normalize((request.url ?? '/').split('?')[0] ?? '/');
    if (isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    if (policy !== undefined) response.setHeader('Content-Security-Policy', policy);
    if (path === '/') {
      response.setHeader('Content-Type', 'text/html');
      response.end('<!doctype html><title>pool</title>');
      return;
    }
    response.setHeader('Content-Type', 'text/javascript');
    if (path === '/pool-worker.js') {
      response.end(WEB_WORKER_SOURCE);
      return;
    }
    if (path === '/worker.js') {
      response.end(WORKER_SCRIPT);
      return;
    }
    try {
      const source = readFileSync(join(ROOT, path), 'utf8');
      const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
      response.end(ts.transpileModule(source, { compilerOptions }).outputText);
    } catch {
      response.statusCode = 404;
      response.end();
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

const address = (server: Server): string =>
  `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;

// The page's code is text: it imports what the server transpiles, which Node must not resolve.
const inPage = (page: Page, code: string): Promise<unknown> =>
  page.evaluate(`(async () => { ${code} })()`);

const measureInPage = (page: Page, busy: string): Promise<unknown> =>
  inPage(
    page,
    `const { measurePool } = await import('/scripts/experiments/pool-measure.ts');
     return measurePool('page', '${busy}');`,
  );

const measureInWorker = (page: Page, busy: string): Promise<unknown> =>
  inPage(
    page,
    `const worker = new Worker('/worker.js', { type: 'module' });
     worker.postMessage({ place: 'worker of the page', busy: '${busy}' });
     return new Promise((resolve, reject) => {
       worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
       worker.onerror = (event) => reject(new Error(event.message));
     });`,
  );

const LIMITS = `
const { threadsAvailable, callerMayWait } = await import('/src/runtime/host-threads.ts');
const { WorkerPool } = await import('/src/runtime/workers.ts');
const { encodeModule } = await import('/scripts/experiments/tiny-wasm.ts');
const compiles = (megabytes) => {
  // A custom section is all padding.
  const size = megabytes * 2 ** 20;
  const leb = [0, 7, 14, 21].map((shift) => (size >> shift) & 0x7f | (shift < 21 ? 0x80 : 0));
  const bytes = new Uint8Array(8 + 5 + size);
  bytes.set([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 0, ...leb]);
  bytes[13] = 1;
  try { new WebAssembly.Module(bytes); return true; } catch (error) { return String(error); }
};
const available = threadsAvailable();
const record = { measure: 'limits', isolated: crossOriginIsolated, available, compiles7MB: compiles(7), compiles9MB: compiles(9) };
if (!available.available) return [record];
const memory = new WebAssembly.Memory({ initial: 2, maximum: 65536, shared: true });
const pool = WorkerPool.create({ memory, barrierAddress: 64, threads: 2 });
const run = { parameters: 3, body: [], exportAs: 'run' };
const first = pool.register(new WebAssembly.Module(encodeModule([run])));
const busy = (ms) => { const end = performance.now() + ms; while (performance.now() < end); };
busy(1000);
record.mayWait = callerMayWait();
record.readyAfter1sOfSynchronousCode = pool.readyFor(first);
await pool.whenReady(first);
const second = pool.register(new WebAssembly.Module(encodeModule([{ ...run, locals: [127] }])));
const start = performance.now();
while (pool.readyFor(second) === 0 && performance.now() - start < 1000);
record.handOverInSynchronousCode = pool.readyFor(second) === 1;
await pool.close();
return [record];
`;

// A page that forbids `blob:` workers: what the pool says, and that a script of its own helps.
const POLICY = `
const { WorkerPool } = await import('/src/runtime/workers.ts');
const { encodeModule } = await import('/scripts/experiments/tiny-wasm.ts');
const run = { parameters: 3, body: [], exportAs: 'run' };
const module = new WebAssembly.Module(encodeModule([run]));
const memory = new WebAssembly.Memory({ initial: 2, maximum: 65536, shared: true });
const outcome = async (options) => {
  const pool = WorkerPool.create({ memory, barrierAddress: 64, threads: 2, ...options });
  const workers = await pool.whenReady(pool.register(module));
  await pool.close();
  return { workers, startFailure: pool.startFailure };
};
return [{ measure: 'policy', blob: await outcome({}), ownScript: await outcome({ workerUrl: '/pool-worker.js' }) }];
`;

async function main(): Promise<void> {
  const executablePath = process.argv[2] ?? '/usr/bin/chromium';
  const args = ['--no-sandbox', '--disable-gpu'];
  const browser = await chromium.launch({ executablePath, args });
  const servers = [serve(true), serve(false), serve(true, "worker-src 'self'")] as const;
  const [isolated, plain, strict] = await Promise.all(servers);
  try {
    const page = await browser.newPage();
    await page.goto(address(plain));
    print((await inPage(page, LIMITS)) as object[]);
    await page.goto(address(strict));
    print((await inPage(page, POLICY)) as object[]);
    await page.goto(address(isolated));
    print((await inPage(page, LIMITS)) as object[]);
    for (const measure of [measureInPage, measureInWorker]) {
      print((await measure(page, 'nothing')) as object[]);
      print((await besideBusyProcess(() => measure(page, 'one process'))) as object[]);
    }
  } finally {
    await browser.close();
    isolated.close();
    plain.close();
    strict.close();
  }
}

await main();
