// What is compared, and the table of it.
import { table } from '../../src/terminal.ts';

/** Of fast numerics: largest difference over the largest value. */
export const TOLERANCE = 1e-5;

export interface Finding {
  readonly model: string;
  readonly place: string;
  readonly numerics: 'strict' | 'fast';
  readonly verdict: 'pass' | 'FAIL' | 'skip';
  readonly difference: number | null;
  /** What the table says. */
  readonly text: string;
}

/** Largest difference of two results, over the largest value; infinite where they do not fit. */
export function relativeDifference(got: Uint8Array, wanted: Uint8Array): number {
  if (got.length !== wanted.length || got.length === 0) return Infinity;
  const [a, b] = [got, wanted].map((bytes) => new Float32Array(bytes.slice().buffer));
  let [most, scale] = [0, 0];
  (b as Float32Array).forEach((value, i) => {
    const apart = Math.abs(((a as Float32Array)[i] as number) - value);
    // What is no number must not look the same.
    most = Number.isNaN(apart) ? Infinity : Math.max(most, apart);
    scale = Math.max(scale, Math.abs(value));
  });
  return most === 0 ? 0 : most / scale;
}

export const sameBits = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length > 0 && Buffer.compare(a, b) === 0;

/** Whether a result is finite numbers that are not all the same: others would agree too easily. */
export function isTelling(bytes: Uint8Array): boolean {
  const values = new Float32Array(bytes.slice().buffer);
  return values.every(Number.isFinite) && values.some((value) => value !== values[0]);
}

export type Judgement = Pick<Finding, 'verdict' | 'difference' | 'text'>;

/** Nothing was compared, for a reason. */
export function nothing(verdict: 'FAIL' | 'skip', why: string): Judgement {
  return { verdict, difference: null, text: `${verdict}: ${why}` };
}

/** Strict numerics must give the same bits, fast ones the same within the tolerance. */
export function judge(numerics: 'strict' | 'fast', got: Uint8Array, wanted: Uint8Array): Judgement {
  const difference = relativeDifference(got, wanted);
  const isSame = sameBits(got, wanted);
  const holds = numerics === 'strict' ? isSame : difference <= TOLERANCE;
  const number = difference.toExponential(1);
  const text = isSame ? 'same bits' : holds ? number : `FAIL ${number}`;
  return { verdict: holds ? 'pass' : 'FAIL', difference, text };
}

/** The largest difference between any two results. */
export function judgeAll(numerics: 'strict' | 'fast', all: readonly Uint8Array[]): Judgement {
  const pairs = all.flatMap((a, i) => all.slice(i + 1).map((b) => judge(numerics, a, b)));
  const [first, ...rest] = pairs;
  if (first === undefined) return nothing('skip', 'fewer than two results');
  return rest.reduce((worst, each) => {
    if (worst.verdict !== each.verdict) return worst.verdict === 'FAIL' ? worst : each;
    return (each.difference ?? 0) > (worst.difference ?? 0) ? each : worst;
  }, first);
}

export function textOf(findings: readonly Finding[]): string {
  const rows = new Map<
    string,
    Record<'strict' | 'fast', string> & { model: string; place: string }
  >();
  for (const { model, place, numerics, text } of findings) {
    const key = `${model}\n${place}`;
    const row = rows.get(key) ?? { model, place, strict: '', fast: '' };
    rows.set(key, { ...row, [numerics]: text });
  }
  const cells = [...rows.values()].map(({ model, place, strict, fast }) => [
    model,
    place,
    strict,
    fast,
  ]);
  return `${table(cells, { head: ['model', 'where', 'strict', 'fast'] })}\n${totals(findings)}`;
}

function totals(findings: readonly Finding[]): string {
  const count = (verdict: Finding['verdict']): number =>
    findings.filter((each) => each.verdict === verdict).length;
  return `${count('pass')} passed, ${count('FAIL')} failed, ${count('skip')} skipped`;
}
