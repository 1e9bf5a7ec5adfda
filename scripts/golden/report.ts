// What the golden run says: failures as they are, skips by their reason, a table by family.

import { colors, table } from '../../src/terminal.ts';

export type Outcome =
  | { readonly kind: 'passed'; readonly maxError: number; readonly maxRatio: number }
  | { readonly kind: 'failed'; readonly problems: readonly string[] }
  | { readonly kind: 'skipped'; readonly reason: string };

export interface CaseResult {
  readonly id: string;
  readonly family: string;
  readonly op: string;
  readonly attrs: unknown;
  readonly outcome: Outcome;
  readonly milliseconds: number;
  /** Hash of everything that was compared. */
  readonly bits: string;
}

export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

export function totalsOf(results: readonly CaseResult[]): Totals {
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  for (const { outcome } of results) totals[outcome.kind]++;
  return totals;
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group === undefined) groups.set(key(item), [item]);
    else group.push(item);
  }
  return groups;
}

/** Every failed case, as `failureText` shows one. */
export function failuresText(results: readonly CaseResult[]): string {
  return results
    .filter(({ outcome }) => outcome.kind === 'failed')
    .map((result) => failureText(result))
    .join('\n');
}

/** A failed case: what it was, then a line per problem. */
function failureText(result: CaseResult): string {
  if (result.outcome.kind !== 'failed') return '';
  const paint = colors();
  const head = `${paint.red('FAIL')} ${result.id}  ${result.op} ${JSON.stringify(result.attrs)}`;
  return [head, ...result.outcome.problems.map((problem) => `     ${problem}`)].join('\n');
}

/** Every reason for a skip, with the number of its cases. */
export function skipText(results: readonly CaseResult[]): string {
  const reasons = new Map<string, string[]>();
  for (const { id, outcome } of results) {
    if (outcome.kind !== 'skipped') continue;
    reasons.set(outcome.reason, [...(reasons.get(outcome.reason) ?? []), id]);
  }
  const lines = [...reasons].map(
    ([reason, ids]) => `  ${String(ids.length).padStart(4)}  ${reason}`,
  );
  return lines.length === 0 ? '' : ['Skipped:', ...lines].join('\n');
}

/** Counts by family, and how much of what is allowed the worst passing case used. */
export function familyTable(results: readonly CaseResult[]): string {
  const paint = colors();
  const rows = [...groupBy(results, (result) => result.family)].map(([family, group]) => {
    const totals = totalsOf(group);
    const ratios = group.map(({ outcome }) => (outcome.kind === 'passed' ? outcome.maxRatio : 0));
    const seconds = group.reduce((sum, result) => sum + result.milliseconds, 0) / 1000;
    return [
      family,
      String(group.length),
      String(totals.passed),
      totals.failed > 0 ? paint.red(String(totals.failed)) : '0',
      String(totals.skipped),
      totals.passed > 0 ? Math.max(...ratios).toFixed(2) : '',
      seconds.toFixed(1),
    ];
  });
  return table(rows, {
    head: ['family', 'cases', 'passed', 'failed', 'skipped', 'error/allowed', 'seconds'],
    align: ['left', 'right', 'right', 'right', 'right', 'right', 'right'],
  });
}

/** The last line. */
export function summaryLine(results: readonly CaseResult[]): string {
  const { passed, failed, skipped } = totalsOf(results);
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
