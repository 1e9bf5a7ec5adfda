// Bundle-size report: every entry bundled alone as a web application would get it, minified, gzipped,
// and applications that use some of 'tengen', with what a bundler leaves of it.
// Fails when the core passes its ceiling, or when an entry imports a Node module statically.
import { gzipSync } from 'node:zlib';
import { bundle, type Chunk } from './browser-bundle.ts';
import { presentEntries, root } from './entries.ts';
import { withoutTestParts } from './strip-test-parts.ts';

/** Targets in bytes, gzipped. Missed so far: docs/decisions/0006-bundle-size.md. */
const TARGETS: Record<string, number> = { index: 90 * 1024 };

/** Ceilings of applications, in bytes, gzipped: without what they load when they first need it. */
const APPLICATION_CEILINGS: Readonly<Record<string, number>> = {
  'a model by tengen/lite': 45 * 1024,
};

/** What is reached today, in bytes: more fails the check, so that the gap to a target only shrinks. */
const CEILINGS: Record<string, number> = { index: 262 * 1024 };

/** What an application imports, by what it does. The ceiling is on the whole entry, not on these. */
const APPLICATIONS: Readonly<Record<string, string>> = {
  'all but F, nn and optim': `
    export * from '${root}src/interface/tensor/index.ts';
    export * from '${root}src/interface/transform/index.ts';
    import 'tengen';`,
  'tensor arithmetic': `
    import { tensor } from 'tengen';
    console.log(await tensor([1, 2]).add(1).array());`,
  'inference, Conv2d and Linear': `
    import { nn, noGrad, tensor } from 'tengen';
    class Net extends nn.Module {
      conv = new nn.Conv2d(1, 8, 3);
      fc = new nn.Linear(8, 2);
      forward(x) { return this.fc.forward(this.conv.forward(x).relu().mean([2, 3])); }
    }
    console.log(noGrad(() => new Net().forward(tensor([[[[1]]]]))));`,
  'a model by tengen/lite': `
    import { load } from 'tengen/lite';
    const model = await load('digits.tengen');
    export const classify = async (pixels) => (await model.run(pixels)).logits.data;`,
  'training, examples/mnist': `
    export { DigitNet, trainEpoch } from '${root}examples/mnist/model.ts';
    import { optim } from 'tengen';
    export const { SGD, OneCycleLR } = optim;`,
};

interface EntrySize {
  minified: number;
  gzipped: number;
  /** Chunks that are loaded on demand: backends, the compiler of tengen/lite, the writer of files. */
  lazy: number;
  nodeImports: string[];
}

/** Serves one source text as the module 'application', and the sources as 'tengen'. */
const serve = (text: string) => ({
  name: 'application',
  resolveId: (id: string) =>
    id === 'application'
      ? '\0application.ts'
      : id === 'tengen'
        ? `${root}src/index.ts`
        : id === 'tengen/lite'
          ? `${root}src/lite.ts`
          : null,
  load: (id: string) => (id === '\0application.ts' ? `// @ts-nocheck\n${text}` : null),
});

const bundled = (name: string, source: string, application = ''): Promise<Chunk[]> =>
  bundle(
    { [name]: source },
    { platform: 'neutral', plugins: [withoutTestParts, serve(application)] },
  );

/** What the entry imports statically, directly or not. The rest is loaded when it is first needed. */
function startingChunks(chunks: Chunk[]): Set<Chunk> {
  const byName = new Map(chunks.map((chunk) => [chunk.fileName, chunk]));
  const found = new Set<Chunk>();
  const visit = (chunk: Chunk | undefined): void => {
    if (chunk === undefined || found.has(chunk)) return;
    found.add(chunk);
    for (const name of chunk.imports) visit(byName.get(name));
  };
  for (const chunk of chunks) if (chunk.isEntry) visit(chunk);
  return found;
}

function measure(chunks: Chunk[]): EntrySize {
  const size: EntrySize = { minified: 0, gzipped: 0, lazy: 0, nodeImports: [] };
  const starting = startingChunks(chunks);
  for (const chunk of chunks) {
    const gzipped = gzipSync(chunk.code, { level: 9 }).length;
    if (!starting.has(chunk)) {
      size.lazy += gzipped;
    } else {
      size.minified += Buffer.byteLength(chunk.code);
      size.gzipped += gzipped;
    }
    size.nodeImports.push(...chunk.imports.filter((specifier) => specifier.startsWith('node:')));
  }
  return size;
}

const kilobytes = (bytes: number): string => (bytes / 1024).toFixed(1).padStart(8);

async function main(): Promise<void> {
  const problems: string[] = [];
  console.log('entry             min KB    gzip KB   lazy KB   ceiling (1 KB = 1024 bytes)');
  for (const entry of presentEntries().filter(({ nodeOnly }) => !nodeOnly)) {
    let size: EntrySize;
    try {
      size = measure(await bundled(entry.name, entry.source));
    } catch (error) {
      problems.push(`${entry.specifier}: cannot be bundled: ${String(error)}`);
      continue;
    }
    const ceiling = CEILINGS[entry.name];
    const limit = ceiling === undefined ? '       -' : kilobytes(ceiling);
    console.log(
      `${entry.specifier.padEnd(15)} ${kilobytes(size.minified)}   ${kilobytes(size.gzipped)}  ${kilobytes(size.lazy)}  ${limit}`,
    );
    if (ceiling !== undefined && size.gzipped > ceiling) {
      problems.push(
        `${entry.specifier}: ${size.gzipped} bytes gzipped, over its ceiling of ${ceiling}. hint: move what few programs need behind a dynamic import or into another entry`,
      );
    }
    const target = TARGETS[entry.name];
    if (target !== undefined && size.gzipped > target) {
      console.log(
        `  the target of ${kilobytes(target).trim()} KB is missed by ${kilobytes(size.gzipped - target).trim()} KB: docs/decisions/0006-bundle-size.md`,
      );
    }
    for (const specifier of new Set(size.nodeImports)) {
      problems.push(
        `${entry.specifier}: imports ${specifier} statically, which no browser can load. hint: await import('${specifier}') behind a check that this is Node`,
      );
    }
  }
  console.log('\nan application that uses             min KB    gzip KB   lazy KB   ceiling');
  for (const [use, text] of Object.entries(APPLICATIONS)) {
    const size = measure(await bundled('application', 'application', text));
    const ceiling = APPLICATION_CEILINGS[use];
    const limit = ceiling === undefined ? '       -' : kilobytes(ceiling);
    console.log(
      `${use.padEnd(33)} ${kilobytes(size.minified)}   ${kilobytes(size.gzipped)}  ${kilobytes(size.lazy)}  ${limit}`,
    );
    if (ceiling !== undefined && size.gzipped > ceiling) {
      problems.push(`${use}: ${size.gzipped} bytes gzipped, over its ceiling of ${ceiling}`);
    }
  }
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exitCode = 1;
}

await main();
