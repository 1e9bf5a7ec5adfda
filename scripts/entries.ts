// Owns the list of package entries: read from package.json's exports, so that the build, the size
// report and the tests cannot disagree about it.
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Repository root, with a trailing slash. */
export const root = fileURLToPath(new URL('../', import.meta.url));

export interface Entry {
  /** What a user imports: `tengen`, `tengen/nn`. */
  specifier: string;
  /** Name of the output file without its extension: `index`, `nn`. */
  name: string;
  /** Source file relative to the root: `src/nn.ts`. */
  source: string;
  /** Whether only Node loads it: browsers never see its imports. */
  nodeOnly: boolean;
}

/** Entries of their own that no browser can use. */
const NODE_ONLY: ReadonlySet<string> = new Set(['native']);

function readEntries(): Entry[] {
  const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
    name: string;
    exports: Record<string, { readonly node?: string }>;
  };
  return Object.entries(manifest.exports)
    .filter(([subpath]) => subpath !== './package.json')
    .flatMap(([subpath, conditions]) => {
      const specifier = manifest.name + subpath.slice(1);
      const name = subpath === '.' ? 'index' : subpath.slice(2);
      const nodeOnly = NODE_ONLY.has(name);
      const entry = { specifier, name, source: `src/${name}.ts`, nodeOnly };
      // 'tengen' is another file in Node: './dist/node.js' comes of src/node.ts.
      const inNode = conditions.node;
      if (inNode === undefined) return [entry];
      const special = inNode.replace(/^.*\/|\.js$/g, '');
      return [entry, { specifier, name: special, source: `src/${special}.ts`, nodeOnly: true }];
    });
}

/** Every entry that package.json exports. */
export const entries: readonly Entry[] = readEntries();

/** The entries whose source file exists; the others are named on stderr, never dropped silently. */
export function presentEntries(): Entry[] {
  const missing = entries.filter((entry) => !existsSync(root + entry.source));
  for (const entry of missing) {
    console.error(`missing entry: package.json exports ${entry.specifier}, no ${entry.source}`);
  }
  return entries.filter((entry) => !missing.includes(entry));
}
