// What the modules made from examples call: compares a value, a printed text, an error with a claim.
import ts from 'typescript';

/** A claim that does not hold. `line` counts from 0 inside the example. */
export class ClaimError extends Error {
  override name = 'ClaimError';
  readonly line: number;

  constructor(message: string, line: number) {
    super(message);
    this.line = line;
  }
}

/** A literal of a claim. Numbers keep their text: its digits say how exactly they are meant. */
type Literal =
  | { kind: 'number'; value: number; text: string }
  | { kind: 'other'; value: string | bigint | boolean | null | undefined }
  | { kind: 'list'; items: Literal[] }
  | { kind: 'record'; fields: Map<string, Literal> };

const WORDS: Record<string, Literal> = {
  true: { kind: 'other', value: true },
  false: { kind: 'other', value: false },
  null: { kind: 'other', value: null },
  undefined: { kind: 'other', value: undefined },
  NaN: { kind: 'number', value: NaN, text: 'NaN' },
  Infinity: { kind: 'number', value: Infinity, text: 'Infinity' },
};

function literalOf(node: ts.Expression): Literal | undefined {
  if (ts.isNumericLiteral(node)) {
    return { kind: 'number', value: Number(node.text), text: node.getText() };
  }
  if (ts.isBigIntLiteral(node)) return { kind: 'other', value: BigInt(node.text.slice(0, -1)) };
  if (ts.isStringLiteralLike(node)) return { kind: 'other', value: node.text };
  if (ts.isPrefixUnaryExpression(node) && node.operator === ts.SyntaxKind.MinusToken) {
    const operand = literalOf(node.operand);
    if (operand?.kind === 'number') return { ...operand, value: -operand.value };
    return undefined;
  }
  if (ts.isArrayLiteralExpression(node)) {
    const items = node.elements.map(literalOf);
    if (items.includes(undefined)) return undefined;
    return { kind: 'list', items: items.filter((item) => item !== undefined) };
  }
  if (ts.isObjectLiteralExpression(node)) {
    const fields = new Map<string, Literal>();
    for (const property of node.properties) {
      const value = ts.isPropertyAssignment(property) ? literalOf(property.initializer) : undefined;
      if (value === undefined || property.name === undefined) return undefined;
      const key = ts.isStringLiteral(property.name) ? property.name.text : property.name.getText();
      fields.set(key, value);
    }
    return { kind: 'record', fields };
  }
  return WORDS[node.getText()];
}

function parseLiteral(text: string): Literal | undefined {
  const file = ts.createSourceFile('claim.ts', `(${text})`, ts.ScriptTarget.ES2022, true);
  const statement = file.statements[0];
  if (statement === undefined || !ts.isExpressionStatement(statement)) return undefined;
  const inner = statement.expression;
  return ts.isParenthesizedExpression(inner) ? literalOf(inner.expression) : undefined;
}

/** Three or more decimals are taken as rounded to them; fewer as exact, up to float32's rounding. */
function sameNumber(actual: number, literal: { value: number; text: string }): boolean {
  const { value, text } = literal;
  if (Object.is(actual, value) || actual === value) return true;
  const [mantissa = '', exponent = '0'] = text.replaceAll('_', '').toLowerCase().split('e');
  const decimals = mantissa.split('.')[1]?.length ?? 0;
  const rounding = decimals >= 3 ? 0.5 * 10 ** (Number(exponent) - decimals) : 0;
  return Math.abs(actual - value) <= rounding + 1e-6 * Math.abs(value);
}

function matches(actual: unknown, literal: Literal): boolean {
  switch (literal.kind) {
    case 'number':
      return typeof actual === 'number' && sameNumber(actual, literal);
    case 'other':
      return Object.is(actual, literal.value);
    case 'list':
      return (
        Array.isArray(actual) &&
        actual.length === literal.items.length &&
        literal.items.every((item, index) => matches(actual[index], item))
      );
    case 'record': {
      if (typeof actual !== 'object' || actual === null || Array.isArray(actual)) return false;
      const present = new Map(Object.entries(actual));
      return (
        present.size === literal.fields.size &&
        [...literal.fields].every(([key, item]) => matches(present.get(key), item))
      );
    }
    default:
      return literal satisfies never;
  }
}

interface Readable {
  array(): unknown;
}

const isReadable = (value: unknown): value is Readable =>
  typeof value === 'object' &&
  value !== null &&
  'array' in value &&
  typeof value.array === 'function';

/** Tensors are read, typed arrays and other iterables become arrays, promises are awaited. */
async function plain(value: unknown): Promise<unknown> {
  const settled = await value;
  if (isReadable(settled)) return plain(settled.array());
  if (typeof settled !== 'object' || settled === null) return settled;
  if (Symbol.iterator in settled && !(settled instanceof Map)) {
    return Promise.all(Array.from(settled as Iterable<unknown>, plain));
  }
  if (Object.getPrototypeOf(settled) !== Object.prototype) return settled;
  const fields = Object.entries(settled).map(
    async ([key, item]) => [key, await plain(item)] as const,
  );
  return Object.fromEntries(await Promise.all(fields)) as unknown;
}

const show = (value: unknown): string =>
  typeof value === 'object' && value !== null
    ? (JSON.stringify(value) ?? String(value))
    : String(value);

/** Ends of lines and runs of blanks do not matter, neither does what surrounds the text. */
const squash = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();

/** `expression; // => expected`: a literal is compared by value, other text with `String(value)`. */
export async function value(actual: unknown, expected: string, line: number): Promise<void> {
  const literal = parseLiteral(expected);
  if (literal === undefined) {
    const text = String(await actual);
    if (squash(text) !== squash(expected))
      throw new ClaimError(`is ${text}, not ${expected}`, line);
    return;
  }
  const settled = await plain(actual);
  if (!matches(settled, literal)) {
    throw new ClaimError(`is ${show(settled)}, not ${expected.trim()}`, line);
  }
}

/** Text that examples printed outside a `prints` claim is dropped: the test's output stays clean. */
async function capture(run: () => Promise<void>): Promise<string> {
  const previous = console.log;
  const lines: string[] = [];
  console.log = (...args: unknown[]): void => void lines.push(args.map(String).join(' '));
  try {
    await run();
  } finally {
    console.log = previous;
  }
  return lines.join('\n');
}

/** `console.log(x); // prints expected`. */
export async function prints(
  run: () => Promise<void>,
  expected: string,
  line: number,
): Promise<void> {
  const text = await capture(run);
  if (squash(text) !== squash(expected)) {
    throw new ClaimError(`prints\n${text}\nnot\n${expected}`, line);
  }
}

/** `statement; // throws ShapeError: part of the message`. */
export async function throws(
  run: () => Promise<void>,
  expected: string,
  line: number,
): Promise<void> {
  let text: string | undefined;
  try {
    await capture(run);
  } catch (error) {
    text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
  if (text === undefined) throw new ClaimError(`does not throw ${expected}`, line);
  if (!squash(text).includes(squash(expected))) {
    throw new ClaimError(`throws ${text}, not ${expected}`, line);
  }
}
