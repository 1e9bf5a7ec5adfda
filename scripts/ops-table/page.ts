// docs/ops.md: its text, its rows written and read back.
import type { Facts } from './facts.ts';

/** Backends in the order of their columns. */
export const BACKENDS = ['interp', 'wasm', 'native'] as const;
export type Backend = (typeof BACKENDS)[number];

/** A row of the table. */
export interface Row extends Facts {
  /** Largest error in ulp, or `exact`. */
  readonly errors: Readonly<Record<Backend, string>>;
}

const HEAD = `# Operations

What every tensor operation is made of: the primitives, from their definitions in \`src/graph/ops\`. \`npm run ops-table\` writes this page, and \`npm test\` fails while it differs from the definitions.

- _dtypes_: what the first float among the inputs may be (else the first input), with those that share its dtype.
- _gradient_, _second_: whether there is a rule, and whether it can be differentiated again; \`npm test\` compares both with finite differences in float64. \`zero\`: a step.
- _interp_, _wasm_, _native_: the backends that run it, with the largest error over the op's samples in units of the last place, in fast numerics: of the value, and for ops that sum, of the largest value of the result. \`exact\`: each element is the reference's (integers), or its nearest float without error. WebGPU has a renderer that is tested on the same kernels and no device yet.
`;

const COLUMNS = ['op', 'what it gives', 'dtypes', 'gradient', 'second', ...BACKENDS];

/** A cell may hold no column's end. */
const escaped = (text: string): string => text.replaceAll('|', '\\|');

export function pageOf(rows: readonly Row[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(escaped).join(' | ')} |`;
  const lines = rows.map(({ op, summary, dtypes, gradient, second, errors }) =>
    line([`\`${op}\``, summary, dtypes, gradient, second, ...BACKENDS.map((name) => errors[name])]),
  );
  return [HEAD, line(COLUMNS), line(COLUMNS.map(() => '---')), ...lines, ''].join('\n');
}

/** The rows of a page, however its columns are aligned. */
export function rowsOf(page: string): Row[] {
  return page
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => {
      const cells = line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll('\\|', '|'));
      const [op = '', summary = '', dtypes = '', gradient = '', second = '', ...rest] = cells;
      const [interp = '', wasm = '', native = ''] = rest;
      const errors = { interp, wasm, native };
      return { op: op.replaceAll('`', ''), summary, dtypes, gradient, second, errors };
    });
}
