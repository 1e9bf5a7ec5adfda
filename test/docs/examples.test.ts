// Runs every example of the docstrings, READMEs and docs, and type-checks them as a user would.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { configure } from '../../src/node.ts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { entries, root } from '../../scripts/entries.ts';
import { collectExamples } from './collect.ts';
import type { Example } from './collect.ts';
import { ClaimError } from './check.ts';
import { moduleFor } from './convention.ts';
import type { Implicit } from './convention.ts';

// Inside the repository, so that the alias of vitest.config.ts and tsconfig's paths apply.
const folder = `${root}out/examples-${process.pid}`;
const checkModule = fileURLToPath(new URL('./check.ts', import.meta.url));

interface Prepared {
  example: Example;
  file: string;
  problem: string | undefined;
}

const present = entries.filter(({ source }) => existsSync(root + source));
const core = present.find(({ name }) => name === 'index');
// Imported first of all: it registers the backends that examples of inner files need too.
const coreNames = core === undefined ? [] : Object.keys((await import(core.specifier)) as object);

/** What `path` itself exports: an example in a docstring knows the file it stands in. */
function ownExports(path: string): { values: string[]; types: string[] } {
  const text = readFileSync(root + path, 'utf8');
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022);
  const own: { values: string[]; types: string[] } = { values: [], types: [] };
  for (const statement of file.statements) {
    const exported =
      ts.canHaveModifiers(statement) &&
      ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
    if (exported !== true) continue;
    if (ts.isVariableStatement(statement)) {
      for (const { name } of statement.declarationList.declarations) {
        if (ts.isIdentifier(name)) own.values.push(name.text);
      }
    } else if (ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement)) {
      own.types.push(statement.name.text);
    } else if (ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement)) {
      if (statement.name !== undefined) own.values.push(statement.name.text);
    }
  }
  return own;
}

/** Examples in docstrings may leave out imports; a page is copied by its readers and may not. */
function implicitFor(path: string): Implicit {
  const values = new Map<string, string>();
  if (path.endsWith('.md')) return { values, types: new Set(), namespaces: new Map() };
  for (const name of coreNames) values.set(name, 'tengen');
  const own = ownExports(path);
  const here = relative(folder, root + path);
  for (const name of [...own.values, ...own.types]) values.set(name, here);
  const others = present.filter((entry) => entry !== core);
  const namespaces = new Map(others.map(({ name, specifier }) => [name, specifier]));
  return { values, types: new Set(own.types), namespaces };
}

/** An example's relative imports are meant from the file it stands in. */
function moved(example: Example): Example {
  const base = dirname(root + example.path);
  const code = example.code.replaceAll(
    /(from\s+|import\(?)(['"])(\.[^'"]*)\2/g,
    (_, lead: string, quote: string, specifier: string) =>
      `${lead}${quote}${relative(folder, `${base}/${specifier}`)}${quote}`,
  );
  return { ...example, code };
}

function prepare(example: Example, index: number): Prepared {
  const file = `${folder}/example${index}.ts`;
  if (example.problem !== undefined) return { example, file, problem: example.problem };
  try {
    writeFileSync(file, moduleFor(moved(example), implicitFor(example.path), checkModule));
    return { example, file, problem: undefined };
  } catch (error) {
    return { example, file, problem: String(error) };
  }
}

function typeErrors(prepared: readonly Prepared[]): string[] {
  const config = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile).config as {
    compilerOptions: object;
  };
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root);
  // Relative paths would be looked up from wherever the tests have changed to.
  const paths = Object.fromEntries(
    Object.entries(options.paths ?? {}).map(([name, targets]) => [
      name,
      targets.map((target) => join(root, target)),
    ]),
  );
  const program = ts.createProgram(
    prepared.map(({ file }) => file),
    // Examples show one thing each: a name that is only declared is no mistake there.
    { ...options, paths, noUnusedLocals: false, noUnusedParameters: false },
  );
  return prepared.flatMap(({ example, file }) => {
    const source = program.getSourceFile(file);
    if (source === undefined) return [`${example.path}:${example.line}: not compiled`];
    const found = [
      ...program.getSyntacticDiagnostics(source),
      ...program.getSemanticDiagnostics(source),
    ];
    return found.map(({ start, messageText }) => {
      const { line } = source.getLineAndCharacterOfPosition(start ?? 0);
      const message = ts.flattenDiagnosticMessageText(messageText, '\n');
      return `${example.path}:${example.line + line - 1}: ${message}`;
    });
  });
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const prepared = collectExamples()
  .filter(({ mode, problem }) => mode !== 'sketch' || problem !== undefined)
  .map(prepare);
const sound = prepared.filter(({ problem }) => problem === undefined);

describe('examples', () => {
  const home = process.cwd();
  // Files that examples write land beside them, and go with them.
  beforeAll(() => process.chdir(folder));
  beforeEach(() => {
    vi.spyOn(console, 'log').mockImplementation(() => undefined);
  });
  afterEach(() => {
    vi.restoreAllMocks();
    // What one example sets is not meant for the next.
    configure({ numerics: 'fast', precision: 'float32', passes: 'all', memoryBudget: null });
  });
  afterAll(() => {
    process.chdir(home);
    rmSync(folder, { recursive: true, force: true });
  });

  test('have a form that can be checked', () => {
    const wrong = prepared.flatMap(({ example: { path, line }, problem }) =>
      problem === undefined ? [] : [`${path}:${line}: ${problem}`],
    );
    expect(wrong.join('\n')).toBe('');
  });

  test('compile, those that do not run too', { timeout: 120_000 }, () => {
    expect(typeErrors(sound).join('\n')).toBe('');
  });

  for (const { example, file } of sound) {
    if (example.mode !== 'run') continue;
    test(`${example.path}:${example.line}`, async () => {
      try {
        expect(await import(file)).toBeDefined();
      } catch (error) {
        if (!(error instanceof ClaimError)) throw error;
        expect.fail(`${example.path}:${example.line + error.line}: ${error.message}`);
      }
    });
  }
});
