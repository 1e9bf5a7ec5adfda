// docs/ops.md says what the definitions of the ops say, and knows of no hole on any backend.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { root } from '../../scripts/entries.ts';
import { errorCell } from '../../scripts/ops-table/errors.ts';
import { factsOf, tableOps } from '../../scripts/ops-table/facts.ts';
import { BACKENDS, pageOf, rowsOf } from '../../scripts/ops-table/page.ts';

const hint = 'npm run ops-table -- --missing';
const rows = rowsOf(readFileSync(`${root}docs/ops.md`, 'utf8'));

test('has every op, in order, as it is defined', () => {
  expect(
    rows.map(({ op }) => op),
    hint,
  ).toEqual(tableOps().map(({ name }) => name));
  const facts = rows.map(({ errors: _errors, ...row }) => row);
  expect(facts, hint).toEqual(tableOps().map(factsOf));
});

test('every op runs on every backend, and its error was measured', () => {
  for (const { op, errors } of rows) {
    for (const backend of BACKENDS) {
      expect(errors[backend], `${op} on ${backend}; ${hint}`).toMatch(/^(exact|\d+(\.\d+)?)$/);
    }
  }
});

test('its text is the script’s, and rows come back from it', () => {
  const page = readFileSync(`${root}docs/ops.md`, 'utf8');
  const text = (whole: string): string => whole.split('\n| ')[0]!.trim();
  expect(text(page), 'npm run ops-table -- --missing').toBe(text(pageOf(rows)));
  expect(rowsOf(pageOf(rows))).toEqual(rows);
});

test('errors are shown with two digits', () => {
  const cells = [null, 0, 0.4961, 12.34, 99.9, 113.2].map(errorCell);
  expect(cells).toEqual(['exact', 'exact', '0.5', '12', '100', '114']);
});
