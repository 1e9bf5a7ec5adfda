// A program that would be another one at the next call: something that it was made of changes on the host.
import { TraceError } from '../../base/errors.ts';
import type { Storage } from '../../runtime/storage.ts';
import type { Capture } from './capture.ts';

type Path = readonly (string | number)[];

interface Difference {
  readonly path: Path;
  readonly values: readonly [unknown, unknown];
}

/** Throws TraceError if two calls, one after the other, are not the same program. */
export function checkSame(
  name: string,
  { weights: first, states: _, ...one }: Capture,
  { weights: second, states: __, ...other }: Capture,
): void {
  const found = differenceOf(one, other, []);
  if (found !== null) throw changed(name, one, found);
  for (const leaf of one.leaves) {
    // What the program moves on itself may have moved on.
    if (leaf.kind !== 'weight' || leaf.update >= 0) continue;
    const { tensor } = leaf;
    const [a, b] = [first, second].map((weights) => weights.get(tensor)?.node.storage);
    if (a === b) continue;
    const [bytes, again] = [a, b].map((each) => (each as Storage | null)?.host ?? null);
    // What only a device has was not made by the call.
    if (!bytes || !again || sameBytes(bytes, again)) continue;
    throw refusal(`${name} makes a tensor on the host that differs from call to call`);
  }
}

function differenceOf(a: unknown, b: unknown, path: Path): Difference | null {
  if (Object.is(a, b)) return null;
  const differs: Difference = { path, values: [a, b] };
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return differs;
  const keys = Object.keys(a);
  if (keys.join() !== Object.keys(b).join()) return differs;
  const [left, right] = [a, b] as readonly Readonly<Record<string, unknown>>[];
  for (const key of keys) {
    const found = differenceOf(left?.[key], right?.[key], [...path, key]);
    if (found !== null) return found;
  }
  return null;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

function changed(
  name: string,
  { graph }: Omit<Capture, 'weights' | 'states'>,
  { path, values }: Difference,
): TraceError {
  const [part, index, key] = path;
  if (part === 'scalars' && key === 'value') {
    const slots = graph.nodes.flatMap(({ op }, i) => (op === 'scalar' ? [i] : []));
    const user = graph.nodes.find(({ inputs }) => inputs?.includes(slots[Number(index)] ?? -1));
    const place = user === undefined ? '' : ` (in ${user.op})`;
    return refusal(
      `${name} uses a number that changes from call to call: ${values.map(String).join(', then ')}${place}`,
    );
  }
  return refusal(`${name} is another program when it is called again: ${path.join('.')} differs`);
}

function refusal(message: string): TraceError {
  return new TraceError(message, {
    op: 'dump',
    hint: 'what changes belongs in a tensor: an argument, or an nn.Buffer that the function assigns to',
  });
}
