// What fused with what, and why not: the records behind `explain()`, and their text.
import { byteSize } from '../base/dtype.ts';
import { sizeOf } from '../base/shape.ts';
import type { Node } from '../graph/node.ts';
import type { Flow } from './flow.ts';
import type { GroupOutput } from './lower/emit.ts';
import type { LoweredGroup } from './lower/schedules.ts';
import { contractionFlops } from './lower/naive-contraction.ts';
import type { BudgetReport } from './memory/budget.ts';
import type { Alternative } from './tune/algorithms.ts';
import type { CompiledProgram, KernelExplanation } from './program.ts';
import type { AccessMap } from './schedule/access.ts';
import { coneOf } from './schedule/cone.ts';
import type { Group, Grouping } from './schedule/group.ts';

const bytesOf = (node: Node): number => sizeOf(node.shape) * byteSize(node.dtype);

/** One record for each kernel of a group. */
export function explainStages(
  group: Group,
  flow: Flow,
  accesses: AccessMap,
  { groupOf }: Grouping,
  outputs: readonly GroupOutput[],
  { stages, schedule, alternatives }: LoweredGroup,
): KernelExplanation[] {
  const inside = new Map<Node, number>();
  for (const member of group.members) {
    const cone = coneOf(
      member,
      accesses,
      (node) => flow.isLeaf(node) || (groupOf.has(node) && node !== member),
      Infinity,
    );
    for (const node of cone.inlined) inside.set(node, flow.indexOf(node));
  }
  const nodes = [...inside].sort(([, a], [, b]) => a - b).map(([node]) => node);
  let flops = 0;
  for (const node of nodes) flops += flopsOf(node);
  let bytesRead = 0;
  for (const node of group.reads.keys()) bytesRead += bytesOf(node);
  let bytesWritten = 0;
  for (const { node } of outputs) bytesWritten += bytesOf(node);
  const shape = (group.anchors[0] as Node).shape;
  return stages.map((stage, i): KernelExplanation => {
    const last = i === stages.length - 1;
    return {
      name: stage.kernel.name,
      ops: nodes.map(({ op }) => op.name),
      shape,
      schedule: stages.length === 1 ? schedule : `${schedule} (${i + 1} of ${stages.length})`,
      flops: last ? flops : 0,
      bytesRead: last ? bytesRead : 0,
      bytesWritten: last ? bytesWritten : 0,
      reasons: last ? [...choiceText(schedule, alternatives), ...group.reasons] : [],
    };
  });
}

/** What a schedule was chosen of, if there was a choice. */
function choiceText(schedule: string, alternatives: readonly Alternative[] = []): string[] {
  if (alternatives.length < 2) return [];
  const list = alternatives.map(({ schedule: name, estimate, measured }) => {
    const time =
      measured === null ? `${estimate.toFixed(3)} ms estimated` : `${measured.toFixed(3)} ms`;
    return `${name} ${time}`;
  });
  return [`${schedule} is chosen of: ${list.join(', ')}`];
}

/**
 * Rough arithmetic of one operation. Loops count with the most iterations they may have, or one if that is
 * not known; choices with the larger branch.
 */
export function flopsOf(node: Node): number {
  const { lower } = node.op;
  const { kind } = lower;
  if (kind === 'leaf' || kind === 'result') return 0;
  if (kind === 'region') {
    const each = lower.regions(node.attrs).map(({ body, trips }) => {
      const once = body.nodes.reduce((sum, inner) => sum + flopsOf(inner), 0);
      return once * (trips < 0 ? 1 : trips);
    });
    return Math.max(0, ...each);
  }
  if (kind === 'matmul' || kind === 'convolution') return contractionFlops(node);
  if (kind === 'reduce') return sizeOf((node.inputs[0] as Node).shape);
  return sizeOf(node.shape) * node.op.cost;
}

/**
 * The kernels of a program as a table, with the reasons for where they end, and its memory. With
 * `times`, milliseconds of each kernel, also what it reaches.
 */
export function formatExplanation(compiled: CompiledProgram, times?: Float64Array): string {
  const { kernels, plan, arenaLowerBound, unplannedBytes, applied } = compiled;
  const rows = kernels.map((kernel, i) => [
    String(i),
    ...measuredText(kernel, times?.[i]),
    kernel.name,
    `[${kernel.shape.join(',')}]`,
    kernel.schedule,
    amount(kernel.flops, 'flop'),
    amount(kernel.bytesRead, 'B'),
    amount(kernel.bytesWritten, 'B'),
    opsText(kernel.ops),
  ]);
  const measured = times === undefined ? [] : ['ms', 'reached'];
  const header = [
    '#',
    ...measured,
    'kernel',
    'shape',
    'schedule',
    'work',
    'read',
    'written',
    'ops',
  ];
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] as string).length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] as number))
      .join('  ')
      .trimEnd();
  const lines = [line(header)];
  rows.forEach((row, i) => {
    lines.push(line(row));
    for (const reason of (kernels[i] as KernelExplanation).reasons) lines.push(`     ${reason}`);
  });
  const distinct = plan.kernels.length;
  if (compiled.prepared !== null) {
    const { plan: ahead, kept } = compiled.prepared;
    const bytes = kept.reduce((sum, index) => sum + (ahead.bindings[index]?.bytes ?? 0), 0);
    lines.push(
      `${ahead.dispatches.length} more kernels run once and again when parameters change; ${amount(bytes, 'B')} are kept of them`,
    );
  }
  if (times !== undefined) {
    lines.push(`${times.reduce((sum, ms) => sum + ms, 0).toFixed(3)} ms in kernels`);
  }
  if (applied.length > 0) {
    const list = [...applied].sort(([, a], [, b]) => b - a);
    lines.push(`rewritten: ${list.map(([name, times]) => `${name} ${times}`).join(', ')}`);
  }
  lines.push(
    `${kernels.length} kernels (${distinct} distinct), arena ${amount(plan.arenaBytes, 'B')} (no less than ${amount(arenaLowerBound, 'B')} is possible in this order; ${amount(unplannedBytes, 'B')} if every value had its own memory)`,
  );
  if (compiled.budget !== null) lines.push(budgetText(compiled.budget));
  return lines.join('\n');
}

/** What a memory budget saved, and what that cost. */
function budgetText(report: BudgetReport): string {
  const { budget, arenaBytes, unbudgetedBytes, extraFlops, flops, recomputed } = report;
  const part = flops === 0 ? 0 : (100 * extraFlops) / flops;
  const cost =
    recomputed === 0
      ? 'by the order of its kernels alone'
      : `for ${recomputed} kernel${recomputed === 1 ? '' : 's'} that run${recomputed === 1 ? 's' : ''} again, ${amount(extraFlops, 'flop')} (${part.toFixed(1)} %)`;
  const saved = amount(unbudgetedBytes - arenaBytes, 'B');
  if (budget === null) return `memory: ${saved} less, ${cost}`;
  const name = budget === 'sqrt' ? budget : amount(budget, 'B');
  if (arenaBytes === unbudgetedBytes) return `memory budget ${name}: fits as it is`;
  return `memory budget ${name}: ${saved} less than without it, ${cost}`;
}

/** Time, and arithmetic or, where there is little of it, traffic per second. */
function measuredText(kernel: KernelExplanation, ms: number | undefined): string[] {
  if (ms === undefined) return [];
  const bytes = kernel.bytesRead + kernel.bytesWritten;
  // Ten operations a byte is where a core's arithmetic and its memory take the same time.
  const reached =
    kernel.flops > 10 * bytes
      ? amount(Number((kernel.flops / ms / 1e-3).toPrecision(3)), 'flop/s')
      : amount(Number((bytes / ms / 1e-3).toPrecision(3)), 'B/s');
  return [ms.toFixed(3), bytes + kernel.flops === 0 ? '' : reached];
}

/** Ops with repetition counted: `mul x3, add`. */
function opsText(ops: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const op of ops) counts.set(op, (counts.get(op) ?? 0) + 1);
  return [...counts].map(([op, count]) => (count === 1 ? op : `${op} x${count}`)).join(', ');
}

function amount(value: number, unit: string): string {
  const prefixes = ['', 'k', 'M', 'G', 'T'];
  let scaled = value;
  let prefix = 0;
  while (scaled >= 1000 && prefix < prefixes.length - 1) {
    scaled /= 1000;
    prefix++;
  }
  const digits = prefix === 0 ? String(scaled) : scaled.toPrecision(3);
  return `${digits} ${prefixes[prefix]}${unit}`;
}
