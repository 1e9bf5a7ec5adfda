// Turns an example into a module that checks what its comments claim: `// => value`, `// prints ..`,
// `// throws ..`. CONTRIBUTING.md states the convention for those who write examples.
import ts from 'typescript';
import type { Example } from './collect.ts';

/** What an example may use without importing it. */
export interface Implicit {
  /** Name -> module specifier, for single exports. */
  values: ReadonlyMap<string, string>;
  /** Names among `values` that are types only. */
  types: ReadonlySet<string>;
  /** Name -> module specifier, for whole entries: `nn` -> `tengen/nn`. */
  namespaces: ReadonlyMap<string, string>;
}

interface Claim {
  kind: 'value' | 'prints' | 'throws';
  expected: string;
}

interface Edit {
  start: number;
  end: number;
  text: string;
}

/** An example whose form is wrong; the message says what to write instead. */
export class ExampleError extends Error {
  override name = 'ExampleError';
}

const CLAIM = /^\s*(=>|prints\b|throws\b)\s?(.*)$/;

/** A comment that shows a value, but in a form that nothing checks. */
const LOOKS_LIKE_A_VALUE = /^\s*(['"[{]|-?\d|(true|false|null|undefined|NaN|Tensor)\b)/;

const depthOf = (text: string): number =>
  (text.match(/[[{(]/g)?.length ?? 0) - (text.match(/[\]})]/g)?.length ?? 0);

/** Full-line comments from `from` on, as long as no other line comes between. */
function followingComments(code: string, from: number): string[] {
  const lines = code.slice(from).split('\n').slice(1);
  const end = lines.findIndex((line) => !/^\s*\/\//.test(line));
  return lines
    .slice(0, end === -1 ? lines.length : end)
    .map((line) => line.replace(/^\s*\/\/ ?/, ''));
}

/** The claim behind a statement, on its last line or on the comment lines right below it. */
function readClaim(code: string, statement: ts.Statement): Claim | undefined {
  const trailing = ts.getTrailingCommentRanges(code, statement.end)?.[0];
  const below = followingComments(code, trailing?.end ?? statement.end);
  const first = trailing === undefined ? below.shift() : code.slice(trailing.pos + 2, trailing.end);
  if (first === undefined) return undefined;
  const match = CLAIM.exec(first);
  if (match === null) {
    if (trailing !== undefined && LOOKS_LIKE_A_VALUE.test(first)) {
      throw new ExampleError(`'//${first}' is not checked. hint: write '// =>${first}'`);
    }
    return undefined;
  }
  const [mark = '', rest = ''] = match.slice(1);
  const lines = [rest];
  if (mark === '=>') {
    while (depthOf(lines.join('\n')) > 0 && below.length > 0) lines.push(below.shift() ?? '');
    return { kind: 'value', expected: lines.join('\n') };
  }
  if (rest.trim() === '') lines.splice(0, 1, ...below);
  return { kind: mark === 'prints' ? 'prints' : 'throws', expected: lines.join('\n') };
}

function editFor(code: string, file: ts.SourceFile, statement: ts.Statement): Edit | undefined {
  const claim = readClaim(code, statement);
  if (claim === undefined) return undefined;
  const start = statement.getStart(file);
  const line = file.getLineAndCharacterOfPosition(statement.end).line;
  const args = `${JSON.stringify(claim.expected)}, ${line}`;
  if (claim.kind !== 'value') {
    // A declaration inside the callback would be lost to the lines below it.
    if (ts.isVariableStatement(statement) && claim.kind === 'prints') {
      throw new ExampleError('a declaration prints nothing. hint: put the claim on console.log()');
    }
    const body = code.slice(start, statement.end);
    const text = `await __check.${claim.kind}(async () => { ${body} }, ${args});`;
    return { start, end: statement.end, text };
  }
  if (ts.isExpressionStatement(statement)) {
    const expression = statement.expression.getText(file);
    return { start, end: statement.end, text: `await __check.value(${expression}, ${args});` };
  }
  const declared = ts.isVariableStatement(statement)
    ? statement.declarationList.declarations.at(-1)?.name
    : undefined;
  if (declared !== undefined && ts.isIdentifier(declared)) {
    const text = ` await __check.value(${declared.text}, ${args});`;
    return { start: statement.end, end: statement.end, text };
  }
  throw new ExampleError("'// =>' stands behind an expression or `const name = ..` only");
}

/** Claims inside a block would be comments that nothing checks: count them to refuse them. */
function countClaims(code: string): number {
  return code.split('\n').filter((line) => /\/\/\s*(=>|prints\b|throws\b)/.test(line)).length;
}

/** Names that the example uses and names that it declares itself. */
function namesIn(file: ts.SourceFile): { used: Set<string>; declared: Set<string> } {
  const used = new Set<string>();
  const declared = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) {
      const parent = node.parent;
      const isKey =
        (ts.isPropertyAccessExpression(parent) && parent.name === node) ||
        (ts.isPropertyAssignment(parent) && parent.name === node) ||
        (ts.isClassElement(parent) && parent.name === node);
      const isDeclaration =
        (ts.isVariableDeclaration(parent) ||
          ts.isBindingElement(parent) ||
          ts.isParameter(parent) ||
          ts.isFunctionDeclaration(parent) ||
          ts.isClassDeclaration(parent) ||
          ts.isInterfaceDeclaration(parent) ||
          ts.isTypeAliasDeclaration(parent) ||
          ts.isImportSpecifier(parent) ||
          ts.isImportClause(parent) ||
          ts.isNamespaceImport(parent)) &&
        parent.name === node;
      if (isDeclaration) declared.add(node.text);
      else if (!isKey) used.add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return { used, declared };
}

function importLine(file: ts.SourceFile, implicit: Implicit): string {
  const { used, declared } = namesIn(file);
  const imports: string[] = [];
  for (const name of used) {
    if (declared.has(name)) continue;
    const from = implicit.values.get(name);
    const namespace = implicit.namespaces.get(name);
    if (from !== undefined) {
      const type = implicit.types.has(name) ? 'type ' : '';
      imports.push(`import { ${type}${name} } from ${JSON.stringify(from)};`);
    } else if (namespace !== undefined) {
      imports.push(`import * as ${name} from ${JSON.stringify(namespace)};`);
    }
  }
  return imports.join(' ');
}

/**
 * Source of the module for one example. All added imports stand on its first line and no edit adds
 * a line, so line n of the example is line n + 1 of the module.
 *
 * @throws ExampleError if a claim stands where it cannot be checked, or looks like one and is not.
 */
export function moduleFor(example: Example, implicit: Implicit, checkModule: string): string {
  const code = example.code;
  const file = ts.createSourceFile('example.ts', code, ts.ScriptTarget.ES2022, true);
  const edits = file.statements.flatMap((statement) => editFor(code, file, statement) ?? []);
  if (edits.length !== countClaims(code)) {
    throw new ExampleError(
      `${countClaims(code)} claims, of which ${edits.length} can be checked. hint: a claim stands behind a statement at the top level, not inside a block or a call`,
    );
  }
  let body = code;
  for (const { start, end, text } of edits.toReversed()) {
    // A statement that spans lines keeps them: the text of the edit contains them.
    body = body.slice(0, start) + text + body.slice(end);
  }
  const head = `import * as __check from ${JSON.stringify(checkModule)};`;
  return `${head} ${importLine(file, implicit)}\n${body}\nexport {};\n`;
}
