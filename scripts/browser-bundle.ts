// What applications get: bundles, and headless browsers for scripts and tests that run them.
import { existsSync } from 'node:fs';
import { build, type InlineConfig, type RolldownChunk } from 'tsdown';

const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The browser of this machine, if it has one. */
export function installedBrowser(): string | undefined {
  return BROWSERS.find((path) => existsSync(path));
}

export type Chunk = Extract<RolldownChunk, { type: 'chunk' }>;
type BundleOptions = Pick<InlineConfig, 'platform' | 'plugins' | 'outputOptions' | 'outExtensions'>;

/** Modules bundled and minified as an application would do it. */
export async function bundle(
  entry: Readonly<Record<string, string>>,
  more: BundleOptions,
): Promise<Chunk[]> {
  const bundles = await build({
    config: false,
    entry,
    format: 'esm',
    target: 'es2022',
    minify: true,
    dts: false,
    write: false,
    clean: false,
    report: false,
    logLevel: 'error',
    hash: false,
    ...more,
  });
  return bundles.flatMap(({ chunks }) => chunks.filter((chunk) => chunk.type === 'chunk'));
}

/** Code by the path under which it is served to a browser. */
export async function bundleForBrowser(
  entry: Readonly<Record<string, string>>,
  more: Pick<BundleOptions, 'plugins' | 'outputOptions'> = {},
): Promise<Map<string, string>> {
  const outExtensions = () => ({ js: '.js' });
  const chunks = await bundle(entry, { platform: 'browser', outExtensions, ...more });
  return new Map(chunks.map(({ fileName, code }) => [`/${fileName}`, code]));
}
