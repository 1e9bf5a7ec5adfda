// The house rules of the source tree: who may import whom, no cycles, no hidden types. Each failure
// says what to do. The table is docs/layout.md in code: change both, and only for a reason.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { entries, root } from '../scripts/entries.ts';

/** Layer -> layers it may import. `base` and `ir` are shared words; a layer always sees itself. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  base: [],
  ir: ['base'],
  runtime: ['base', 'ir'],
  backends: ['base', 'ir', 'runtime'],
  graph: ['base', 'ir'],
  compile: ['base', 'ir', 'graph'],
  interface: ['base', 'ir', 'graph', 'compile', 'runtime'],
};

/** Layers that may be named only in `import type`: compile writes plans and touches no device. */
const TYPES_ONLY: Record<string, readonly string[]> = { compile: ['runtime'] };

/** Folder of the interface -> its siblings that it may import. */
const INTERFACE: Record<string, readonly string[]> = {
  tensor: [],
  tuning: [],
  transform: ['tensor', 'tuning'],
  amp: ['tensor'],
  functional: ['tensor', 'transform'],
  nn: ['tensor', 'transform', 'functional'],
  optim: ['tensor', 'transform', 'functional'],
  io: ['tensor', 'transform', 'functional', 'nn', 'optim'],
  data: ['tensor', 'transform', 'functional', 'io'],
  vision: ['tensor', 'transform', 'functional', 'nn', 'data', 'io'],
  text: ['tensor', 'transform', 'functional', 'nn', 'data', 'io'],
  terminal: ['tensor'],
  extend: ['tensor', 'transform', 'functional'],
  linalg: ['tensor', 'transform', 'functional'],
  fft: ['tensor', 'transform', 'functional'],
  lite: ['io', 'tuning'],
  program: ['tensor', 'transform', 'functional', 'nn', 'io', 'lite'],
  onnx: ['tensor', 'transform', 'functional', 'nn', 'io', 'linalg', 'vision'],
  command: ['tensor', 'tuning', 'transform', 'io', 'lite', 'program', 'onnx', 'terminal'],
};

interface Import {
  specifier: string;
  typeOnly: boolean;
  dynamic: boolean;
  /** Target relative to the root, for relative specifiers. */
  target: string | undefined;
  where: string;
}

interface SourceFile {
  path: string;
  imports: Import[];
  syntax: ts.SourceFile;
}

function visitAll(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  ts.forEachChild(node, (child) => visitAll(child, visit));
}

const at = (file: ts.SourceFile, node: ts.Node): string =>
  `${file.fileName}:${file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1}`;

function isTypeOnly(node: ts.Node): boolean {
  if (ts.isImportDeclaration(node)) {
    return node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword;
  }
  return ts.isImportTypeNode(node) || (ts.isExportDeclaration(node) && node.isTypeOnly);
}

/** The module a node names: import and export statements, `import()`, `import('..').T`. */
function moduleOf(node: ts.Node): ts.Expression | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node.moduleSpecifier;
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    return node.arguments[0];
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    return node.argument.literal;
  }
  return undefined;
}

function read(path: string): SourceFile {
  const text = readFileSync(root + path, 'utf8');
  const syntax = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true);
  const imports: Import[] = [];
  visitAll(syntax, (node) => {
    const name = moduleOf(node);
    if (name === undefined || !ts.isStringLiteralLike(name)) return;
    const specifier = name.text;
    const target = specifier.startsWith('.') ? join(dirname(path), specifier) : undefined;
    const [typeOnly, dynamic] = [isTypeOnly(node), ts.isCallExpression(node)];
    imports.push({ specifier, typeOnly, dynamic, target, where: at(syntax, node) });
  });
  return { path, imports, syntax };
}

const files: SourceFile[] = readdirSync(`${root}src`, { withFileTypes: true, recursive: true })
  .filter((item) => item.isFile() && item.name.endsWith('.ts'))
  .map((item) => read(join(item.parentPath, item.name).slice(root.length)));

/** `src/graph/ops/add.ts` -> ['graph', 'ops']; a package entry, `src/nn.ts`, -> []. */
const foldersOf = (path: string): string[] => path.split('/').slice(1, -1);

/** Why `from` may not import `target`, or undefined if it may. */
function objection(from: string, target: string, typeOnly: boolean): string | undefined {
  const [layer, part] = foldersOf(from);
  const [toLayer, toPart] = foldersOf(target);
  if (layer === undefined) return undefined; // a package entry puts everything together
  if (toLayer === undefined) {
    return 'nothing imports a package entry. hint: import the folder that the entry re-exports';
  }
  const allowed = MAY_IMPORT[layer];
  if (allowed === undefined) return `folder src/${layer} is in no layer. hint: see docs/layout.md`;
  if (layer === toLayer) {
    if (layer === 'backends' && part !== toPart) {
      return 'a backend never imports another backend. hint: move what both need to ir or runtime';
    }
    if (layer !== 'interface' || part === toPart || part === undefined) return undefined;
    const siblings = INTERFACE[part];
    if (siblings === undefined) {
      return `src/interface/${part} is unknown. hint: give it a row in INTERFACE of this test`;
    }
    if (toPart !== undefined && siblings.includes(toPart)) return undefined;
    const list = ['itself', ...siblings].join(', ');
    return `interface/${part} may import of the interface: ${list}. hint: move the shared part down`;
  }
  if (allowed.includes(toLayer)) return undefined;
  if (TYPES_ONLY[layer]?.includes(toLayer) === true) {
    if (typeOnly) return undefined;
    return `${layer} may use only types of ${toLayer}. hint: write \`import type\`, or declare it in base or ir`;
  }
  const list = [...allowed, ...(TYPES_ONLY[layer] ?? []).map((name) => `types of ${name}`)];
  return `${layer} may import ${list.join(', ') || 'nothing'}, not ${toLayer}. hint: pass it in from the layer above, or move it to base`;
}

/** Cycles over value imports: a cycle of types costs nothing at run time. */
function findCycles(): string[] {
  const edges = new Map(
    files.map(({ path, imports }) => [
      path,
      imports.flatMap(({ target, typeOnly }) => (target && !typeOnly ? [target] : [])),
    ]),
  );
  const state = new Map<string, 'open' | 'done'>();
  const cycles: string[] = [];
  const walk = (path: string, trail: string[]): void => {
    if (state.get(path) === 'done') return;
    if (state.get(path) === 'open') {
      const loop = [...trail.slice(trail.indexOf(path)), path].join(' -> ');
      cycles.push(`import cycle ${loop}. hint: move what both need into a third file`);
      return;
    }
    state.set(path, 'open');
    for (const next of edges.get(path) ?? []) walk(next, [...trail, path]);
    state.set(path, 'done');
  };
  for (const { path } of files) walk(path, []);
  return cycles;
}

/** What a reader could not rely on: hidden types, addresses of one machine, errors without a name. */
function findHidden({ syntax }: SourceFile): string[] {
  const found: string[] = [];
  const report = (node: ts.Node, what: string): void =>
    void found.push(`${at(syntax, node)}: ${what}`);
  visitAll(syntax, (node) => {
    if (node.kind === ts.SyntaxKind.AnyKeyword) {
      report(node, '`any`. hint: name the type, or take `unknown` and check it');
    }
    if (
      ts.isAsExpression(node) &&
      ts.isAsExpression(node.expression) &&
      node.expression.type.kind === ts.SyntaxKind.UnknownKeyword
    ) {
      report(node, '`as unknown as`. hint: narrow with a check, or fix the type where it is made');
    }
    if (ts.isClassDeclaration(node) && node.heritageClauses?.[0]?.getText().endsWith('Error')) {
      const named = node.members.some((member) => member.name?.getText() === 'name');
      const name = node.name?.text ?? '';
      if (!named) report(node, `bundlers rename classes. hint: override name = '${name}';`);
    }
    if (
      ts.isStringLiteralLike(node) &&
      /(^|["'\s])\/(work|root|home|tmp|Users)\//.test(node.text)
    ) {
      report(node, `machine path '${node.text}'. hint: take it as an argument, or use node:os`);
    }
  });
  return found;
}

describe('architecture', () => {
  test('imports follow the layers', () => {
    const wrong = files.flatMap(({ path, imports }) =>
      imports.flatMap(({ target, typeOnly, where, specifier }) => {
        const reason = target === undefined ? undefined : objection(path, target, typeOnly);
        return reason === undefined ? [] : [`${where}: import '${specifier}': ${reason}`];
      }),
    );
    expect(wrong.join('\n')).toBe('');
  });

  test('the table itself has no cycle and knows the rule it must defend', () => {
    expect(objection('src/compile/a.ts', 'src/runtime/b.ts', false)).toContain('import type');
    expect(objection('src/compile/a.ts', 'src/runtime/b.ts', true)).toBeUndefined();
    expect(objection('src/runtime/a.ts', 'src/graph/b.ts', true)).toContain('not graph');
    expect(objection('src/backends/wasm/a.ts', 'src/backends/interp/b.ts', true)).toBeDefined();
    expect(objection('src/interface/tensor/a.ts', 'src/backends/wasm/b.ts', true)).toBeDefined();
    expect(objection('src/interface/nn/a.ts', 'src/interface/optim/b.ts', true)).toBeDefined();
    expect(objection('src/graph/a.ts', 'src/index.ts', true)).toBeDefined();
  });

  test('no import cycles', () => {
    expect(findCycles().join('\n')).toBe('');
  });

  test('every import is relative with its .ts extension, or a dynamic node: module', () => {
    const wrong = files.flatMap(({ path, imports }) =>
      imports.flatMap(({ specifier, target, where, typeOnly, dynamic }) => {
        if (target === undefined) {
          if (specifier.startsWith('node:')) {
            if (dynamic || typeOnly || path.startsWith('src/backends/native/')) return [];
            return [
              `${where}: '${specifier}' breaks browsers. hint: await import() it where needed`,
            ];
          }
          return [`${where}: '${specifier}': no runtime dependency. hint: import it in test/ only`];
        }
        if (!specifier.endsWith('.ts')) return [`${where}: '${specifier}'. hint: end it in .ts`];
        if (!existsSync(root + target)) return [`${where}: '${specifier}' does not exist`];
        return [];
      }),
    );
    expect(wrong.join('\n')).toBe('');
  });

  test('nothing hides a type, names a machine, or throws errors that a bundler renames', () => {
    expect(files.flatMap(findHidden).join('\n')).toBe('');
  });

  test('package.json exports every entry', () => {
    // The command is package.json's `bin`.
    const exported = new Set([...entries.map((entry) => entry.source), 'src/cli.ts']);
    const shared = new Set(files.flatMap(({ imports }) => imports.map(({ target }) => target)));
    const unknown = files
      .map(({ path }) => path)
      .filter((path) => foldersOf(path).length === 0 && !exported.has(path) && !shared.has(path))
      .map((path) => `${path} is no entry of package.json. hint: add it to "exports"`);
    const missing = [...exported]
      .filter((source) => !existsSync(root + source))
      .map((source) => `${source} is missing. hint: package.json exports it: write it or drop it`);
    expect([...unknown, ...missing].join('\n')).toBe('');
  });
});
