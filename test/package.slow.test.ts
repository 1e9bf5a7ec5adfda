// The package as a user gets it: built, installed in an application, imported, bundled, type-checked.
// Catches what the sources cannot show: a backend that a bundler drops, types that do not resolve.
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'tsdown';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { entries, root } from '../scripts/entries.ts';
import { F, nn, noGrad, ones, type Tensor, trace } from '../src/index.ts';

// Outside the repository, whose tsconfig.json leads 'tengen' to the sources.
const application = realpathSync(mkdtempSync(join(tmpdir(), 'tengen-package-')));
const installed = `${application}/node_modules/tengen`;

const PROGRAM = `
import { tensor } from 'tengen';
console.log(JSON.stringify(await tensor([1, 2]).add(1).array()));
try {
  tensor([1, 2]).add(tensor([1, 2, 3]));
} catch (error) {
  console.log(error.name);
}
`;
/** Steps of every kind of program: with in-place state, learned values, prepared weights. */
const TRAINS = `
import { createHash } from 'node:crypto';
import { env, F, manualSeed, nn, noGrad, optim, tensor } from 'tengen';
manualSeed(1);
const model = new nn.Sequential(new nn.Conv2d(1, 4, 3), new nn.ReLU(), new nn.Flatten(), new nn.Linear(144, 3));
const optimizer = new optim.AdamW(model.parameters(), { lr: 0.01 });
const images = tensor(Float32Array.from({ length: 5 * 64 }, (_, i) => Math.sin(i)), { shape: [5, 1, 8, 8] });
for (let step = 0; step < 4; step++) {
  const scores = model.forward(images);
  const loss = F.crossEntropy(scores, tensor([0, 1, 2, 0, 1], { dtype: 'int32' }).add(0));
  await loss.item();
  optimizer.zeroGrad();
  loss.backward();
  optimizer.step();
  await scores.argmax(1).data();
}
const hash = createHash('sha256');
for (const p of model.parameters()) hash.update(await p.data());
hash.update(await noGrad(() => model.forward(images)).data());
console.log(JSON.stringify({ device: env().device, bits: hash.digest('hex') }));
`;
/** What reads program files, each alone: it must know ops that nothing else in its process calls. */
const READERS = {
  'tengen/lite': `
import { load } from 'tengen/lite';
const model = await load('model.tengen', { numerics: 'strict' });
console.log((await model.check()).passed);
`,
  'tengen/program': `
import 'tengen';
import { loadProgram } from 'tengen/program';
console.log((await loadProgram('model.tengen')).find('convolution').length === 1);
`,
  'tengen/export': `
import { exportToC } from 'tengen/export';
console.log((await exportToC('model.tengen')).files.size > 0);
`,
};
const PRINTS = '[2,3]\nShapeError';

const run = (file: string): string =>
  execFileSync(process.execPath, [file], { cwd: application, encoding: 'utf8' }).trim();

function typeErrors(source: string): string[] {
  const file = `${application}/types.ts`;
  writeFileSync(file, source);
  const program = ts.createProgram([file], {
    strict: true,
    noEmit: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts', 'lib.esnext.disposable.d.ts'],
    types: ['node'],
    typeRoots: [`${root}node_modules/@types`],
    // The published declarations themselves are checked, which an application usually skips.
    skipLibCheck: false,
  });
  return ts
    .getPreEmitDiagnostics(program)
    .map(
      ({ file, messageText }) =>
        `${file?.fileName ?? ''}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`,
    )
    .filter((message) => !message.includes('/node_modules/@types/'));
}

describe('the built package', () => {
  beforeAll(async () => {
    mkdirSync(installed, { recursive: true });
    copyFileSync(`${root}package.json`, `${installed}/package.json`);
    // Its own process: the build is the command that a release runs.
    const tsdown = `${root}node_modules/tsdown/dist/run.mjs`;
    const args = [tsdown, '--out-dir', `${installed}/dist`, '--logLevel', 'error'];
    execFileSync(process.execPath, args, { cwd: root, stdio: 'pipe' });
    writeFileSync(`${application}/package.json`, '{ "type": "module" }');
    writeFileSync(`${application}/program.mjs`, PROGRAM);
  }, 120_000);

  afterAll(() => {
    rmSync(application, { recursive: true, force: true });
  });

  test('programs compiled by one process are found by the next, whole ones only', () => {
    const cache = `${application}/cache`;
    const programs = `${cache}/v1/programs-v1`;
    mkdirSync(cache, { mode: 0o700 });
    symlinkSync(`${root}node_modules/koffi`, `${application}/node_modules/koffi`);
    writeFileSync(`${application}/train.mjs`, TRAINS);
    const train = (): { device: string; bits: string } =>
      JSON.parse(
        execFileSync(process.execPath, ['train.mjs'], {
          cwd: application,
          encoding: 'utf8',
          env: { ...process.env, TENGEN_CACHE: cache },
        }),
      );
    const first = train();
    // Without a compiler there is nothing that could be kept.
    if (first.device !== 'native') return;
    // Saving replaces a file: its number tells whether it was found or made. Using one sets its time.
    const files = (): [name: string, number: number, bytes: number][] =>
      readdirSync(programs).map((name) => {
        const { ino, size } = statSync(`${programs}/${name}`);
        return [name, ino, size];
      });
    const made = files();
    expect(made.length).toBeGreaterThan(0);
    expect(train().bits).toBe(first.bits);
    expect(files()).toEqual(made);
    for (const [name] of made) truncateSync(`${programs}/${name}`, 200);
    expect(train().bits).toBe(first.bits);
    const again = files();
    expect(again.map(([name]) => name)).toEqual(made.map(([name]) => name));
    expect(again.map(([, , bytes]) => bytes)).toEqual(made.map(([, , bytes]) => bytes));
  }, 120_000);

  test.each(entries.map(({ specifier }) => specifier))('%s can be imported', (specifier) => {
    const count = `console.log(Object.keys(await import('${specifier}')).length > 0);`;
    writeFileSync(`${application}/import.mjs`, count);
    expect(run('import.mjs')).toBe('true');
  });

  test.each(Object.entries(READERS))('%s compiles a program file', async (_entry, source) => {
    const conv = new nn.Conv2d(1, 2, 3);
    const pool = trace((x: Tensor) => noGrad(() => F.maxPool2d(F.gelu(conv.forward(x)), 2)));
    await pool.dump(`${application}/model.tengen`, { inputs: [ones([1, 1, 6, 6])] });
    writeFileSync(`${application}/reader.mjs`, source);
    expect(run('reader.mjs')).toBe('true');
  });

  test('says what is missing where only an entry beside the main one is imported', () => {
    writeFileSync(
      `${application}/alone.mjs`,
      `import { Linear } from 'tengen/nn';\ntry { new Linear(1, 1); } catch (error) { console.log(error.message); }`,
    );
    expect(run('alone.mjs')).toContain("import 'tengen'");
  });

  test('computes', () => {
    expect(run('program.mjs')).toBe(PRINTS);
  });

  test('computes when an application bundles and minifies it', async () => {
    await build({
      config: false,
      cwd: application,
      entry: { bundled: 'program.mjs' },
      platform: 'browser',
      minify: true,
      dts: false,
      clean: false,
      outDir: 'bundle',
      deps: { alwaysBundle: /^tengen/ },
      logLevel: 'error',
    });
    const bundled = readFileSync(`${application}/bundle/bundled.js`, 'utf8');
    expect(/\b(import|from)\s*["'`]tengen["'`]\s*;/.test(bundled)).toBe(false);
    expect(run('bundle/bundled.js')).toBe(PRINTS);
  }, 120_000);

  test('has types that an application can use', () => {
    const imports = entries.map(({ specifier }, i) => `import * as entry${i} from '${specifier}';`);
    const uses = entries.map((_, i) => `export const name${i} = entry${i};`);
    expect(typeErrors([...imports, ...uses].join('\n')).join('\n')).toBe('');
    expect(typeErrors(`import { nothing } from 'tengen';`).join('\n')).toContain('nothing');
  }, 120_000);
});
