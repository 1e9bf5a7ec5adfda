// npm run test:browser: trains the digit reader in headless Chromium, in a page with cross-origin
// isolation (threads) and in one without, and reads what they saved in Node.
//   npx tsx test/browser/run.ts [path of the browser]
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { availableParallelism } from 'node:os';
import { type Browser, chromium } from 'playwright-core';
import { bundleForBrowser, installedBrowser } from '../../scripts/browser-bundle.ts';
import { entries, root } from '../../scripts/entries.ts';
import type { PageResult } from './page.ts';
import { scoresBySaved } from './task.ts';

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
/** Of one page, in ms. */
const TIME_LIMIT = 150_000;
const WANTED_ACCURACY = 0.97;

let passed = 0;
let failed = 0;

function check(what: string, holds: boolean, detail: string): void {
  if (holds) passed++;
  else failed++;
  console.log(`${holds ? 'pass' : 'FAIL'}  ${what} (${detail})`);
}

/** The package's entries as a browser gets them; tsconfig.json leads 'tengen' to Node's. */
const browserEntries = {
  name: 'browser-entries',
  resolveId: (id: string): string | null => {
    const entry = entries.find(({ specifier, nodeOnly }) => specifier === id && !nodeOnly);
    return entry === undefined ? null : root + entry.source;
  },
};

/** Script and worker of the page, bundled as an application would be. */
function bundle(): Promise<Map<string, string>> {
  const entry = {
    page: `${root}test/browser/page.ts`,
    worker: `${root}test/browser/worker.ts`,
  };
  return bundleForBrowser(entry, { plugins: [browserEntries] });
}

/** Serves the bundle on the loopback, cross-origin isolated or not. */
function serve(files: ReadonlyMap<string, string>, isolated: boolean): Promise<Server> {
  const server = createServer((request, response) => {
    if (isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    const path = request.url ?? '/';
    const code = files.get(path);
    if (path === '/') {
      response.setHeader('Content-Type', 'text/html');
      response.end(
        '<!doctype html><title>Tengen</title><script type="module" src="/page.js"></script>',
      );
    } else if (code === undefined) {
      // The icon that every browser asks for is no error.
      response.statusCode = path === '/favicon.ico' ? 204 : 404;
      response.end();
    } else {
      response.setHeader('Content-Type', 'text/javascript');
      response.end(code);
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

/** Trains in a fresh context of the browser. Rejects on the worker's error or after the limit. */
async function trainIn(browser: Browser, server: Server): Promise<PageResult> {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on('console', (message) => console.log(`      ${message.text()}`));
  page.on('pageerror', (error) => console.log(`      ${error.message}`));
  let timer: NodeJS.Timeout | undefined;
  try {
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await page.waitForFunction('typeof train === "function"');
    const late = new Promise<never>((_, reject) => {
      const message = `no result within ${TIME_LIMIT / 1000} s`;
      timer = setTimeout(() => reject(new Error(message)), TIME_LIMIT);
    });
    return await Promise.race([page.evaluate<PageResult>('train()'), late]);
  } finally {
    clearTimeout(timer);
    await context.close();
  }
}

async function checkPage(name: string, isolated: boolean, result: PageResult): Promise<void> {
  const cores = availableParallelism();
  const threads = isolated && cores > 1;
  check(`${name}: cross-origin isolation`, result.isolated === isolated, String(result.isolated));
  check(
    `${name}: threads`,
    threads ? result.threads > 1 : result.threads === 1,
    `${result.threads}: ${result.threadsReason}`,
  );
  check(
    `${name}: accuracy`,
    result.accuracy >= WANTED_ACCURACY,
    `${(100 * result.accuracy).toFixed(2)} % in ${result.seconds.toFixed(0)} s`,
  );
  const there = Buffer.from(result.scores, 'base64');
  const here = Buffer.from((await scoresBySaved(Buffer.from(result.weights, 'base64'))).buffer);
  const different = there.length === here.length ? countDifferent(there, here) : there.length;
  check(
    `${name}: its file gives the same scores in Node, bit for bit`,
    different === 0,
    `${different} of ${here.length / 4} differ`,
  );
}

function countDifferent(a: Buffer, b: Buffer): number {
  let count = 0;
  for (let at = 0; at < a.length; at += 4) if (a.readUInt32LE(at) !== b.readUInt32LE(at)) count++;
  return count;
}

async function main(): Promise<void> {
  const executablePath = process.argv[2] ?? installedBrowser();
  if (executablePath === undefined) throw new Error('no browser is installed: name its path');
  const files = await bundle();
  const browser = await chromium.launch({ executablePath, args: ARGUMENTS });
  console.log(`Chromium ${browser.version()}`);
  const results: PageResult[] = [];
  try {
    for (const isolated of [true, false]) {
      const name = isolated ? 'isolated page' : 'plain page';
      const server = await serve(files, isolated);
      try {
        const result = await trainIn(browser, server);
        results.push(result);
        await checkPage(name, isolated, result);
      } catch (error) {
        check(name, false, error instanceof Error ? error.message : String(error));
      } finally {
        server.close();
        server.closeAllConnections();
      }
    }
  } finally {
    await browser.close();
  }
  const [first, second] = results;
  if (first !== undefined && second !== undefined) {
    const detail = `${first.threads} and ${second.threads} threads`;
    check('both pages saved the same weights', first.weights === second.weights, detail);
  }
}

try {
  await main();
} catch (error) {
  failed++;
  console.error(error);
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
