// Headless browsers for scripts and tests: where one is installed, and how it gets code.
import { existsSync } from 'node:fs';
import { build, type InlineConfig } from 'tsdown';

const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The browser of this machine, if it has one. */
export function installedBrowser(): string | undefined {
  return BROWSERS.find((path) => existsSync(path));
}

/** Modules bundled as an application would bundle them: code by the path under which it is served. */
export async function bundleForBrowser(
  entry: Readonly<Record<string, string>>,
  more: Pick<InlineConfig, 'plugins' | 'outputOptions'> = {},
): Promise<Map<string, string>> {
  const bundles = await build({
    config: false,
    entry,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    outExtensions: () => ({ js: '.js' }),
    minify: true,
    dts: false,
    write: false,
    clean: false,
    report: false,
    logLevel: 'error',
    hash: false,
    ...more,
  });
  const files = new Map<string, string>();
  for (const { chunks } of bundles) {
    for (const chunk of chunks) {
      if (chunk.type === 'chunk') files.set(`/${chunk.fileName}`, chunk.code);
    }
  }
  return files;
}
