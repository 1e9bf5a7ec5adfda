// Tables of text: columns padded to the same width, numbers to the right.

import { colors } from './color.ts';
import { formatNumber } from './format.ts';
import { displayWidth, padText } from './text.ts';
import type { Alignment } from './text.ts';

export type Cell = string | number | bigint | boolean | null | undefined;

export interface TableOptions {
  /** Column titles, set off by a rule. */
  head?: readonly string[];
  /** Alignment per column, or of all; by default numbers go right and text left. */
  align?: Alignment | readonly (Alignment | undefined)[];
  /** Draw a frame around the table; without it columns are only spaced. */
  border?: boolean;
  unicode?: boolean;
  color?: boolean;
}

function cellText(cell: Cell): string {
  if (cell === null || cell === undefined) return '';
  return typeof cell === 'number' ? formatNumber(cell) : String(cell);
}

function columnAlignment(
  rows: readonly (readonly Cell[])[],
  column: number,
  align: TableOptions['align'],
): Alignment {
  const given = typeof align === 'string' ? align : align?.[column];
  if (given !== undefined) return given;
  const cells = rows
    .map((row) => row[column])
    .filter((cell) => cell !== null && cell !== undefined);
  const isNumeric = (cell: Cell) => typeof cell === 'number' || typeof cell === 'bigint';
  return cells.length > 0 && cells.every(isNumeric) ? 'right' : 'left';
}

/**
 * Lays rows out as a table, one line a row, without a line break at the end. Short rows are filled
 * with empty cells.
 *
 * @example
 * console.log(table([['conv1', 320], ['fc', 1290]], { head: ['layer', 'parameters'] }));
 * // prints
 * // layer  parameters
 * // ─────  ──────────
 * // conv1         320
 * // fc           1290
 */
export function table(rows: readonly (readonly Cell[])[], options: TableOptions = {}): string {
  const { head, border = false, unicode = true } = options;
  const paint = colors(options.color);
  const columns = Math.max(head?.length ?? 0, 0, ...rows.map((row) => row.length));
  if (columns === 0) return '';
  const places = Array.from({ length: columns }, (_, column) => column);
  const alignments = places.map((column) => columnAlignment(rows, column, options.align));
  const texts = rows.map((row) => places.map((column) => cellText(row[column])));
  const widths = places.map((column) =>
    Math.max(
      displayWidth(head?.[column] ?? ''),
      0,
      ...texts.map((row) => displayWidth(row[column] ?? '')),
    ),
  );
  const pad = (cells: readonly string[]) =>
    places.map((column) => padText(cells[column] ?? '', widths[column] ?? 0, alignments[column]));
  const line = unicode ? '─' : '-';
  const rules = widths.map((width) => line.repeat(width));
  const titles = head === undefined ? undefined : pad(head).map((title) => paint.bold(title));
  if (!border) {
    const plainRow = (cells: readonly string[]) => cells.join('  ').trimEnd();
    const top = titles === undefined ? [] : [plainRow(titles), paint.dim(rules.join('  '))];
    return [...top, ...texts.map((row) => plainRow(pad(row)))].join('\n');
  }
  const wall = unicode ? '│' : '|';
  const framed = (cells: readonly string[]) =>
    `${paint.dim(wall)} ${cells.join(` ${paint.dim(wall)} `)} ${paint.dim(wall)}`;
  const ruleRow = (left: string, middle: string, right: string) =>
    paint.dim(left + rules.map((rule) => line + rule + line).join(unicode ? middle : '+') + right);
  const corner = (character: string) => (unicode ? character : '+');
  return [
    ruleRow(corner('┌'), '┬', corner('┐')),
    ...(titles === undefined ? [] : [framed(titles), ruleRow(corner('├'), '┼', corner('┤'))]),
    ...texts.map((row) => framed(pad(row))),
    ruleRow(corner('└'), '┴', corner('┘')),
  ].join('\n');
}
