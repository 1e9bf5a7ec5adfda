// Takes down what a function computes, as data: its graph, and what the graph's ends are - inputs, weights,
// numbers, places in random streams - without computing anything.
import { ArgumentError, TraceError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { StatedPromise } from '../../graph/op.ts';
import * as ops from '../../graph/ops/index.ts';
import { guardsOf as regionGuards } from '../../graph/ops/result.ts';
import { Linearization } from '../../graph/linearize.ts';
import { type GraphRecord, recordGraph } from '../../graph/record.ts';
import type { Storage } from '../../runtime/storage.ts';
import {
  type GuardRecord,
  isState,
  type LeafRecord,
  type PortRecord,
  type ScalarRecord,
} from '../lite/header.ts';
import { isTensor, standIn, tensorOn } from '../tensor/handle.ts';
import { hostValueOf } from '../tensor/host-value.ts';
import { type Draw, drawOf } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { WeightNames } from '../transform/dumping.ts';
import type { Assignment } from '../transform/entry.ts';
import { guardsOf as watchedOf } from '../transform/promises.ts';
import { flattenTree, isBranch, mapTree, treeLeaves } from '../transform/tree.ts';
import { type Recorded, recorded } from './recording.ts';
import { checkSame } from './stale.ts';

export interface CaptureOptions {
  /** For messages and the file. */
  readonly name: string;
  /** Who asks, in messages; default `dump`. */
  readonly op?: string;
  readonly inputNames?: readonly string[] | undefined;
  readonly outputNames?: readonly string[] | undefined;
  readonly module?: WeightNames | undefined;
}

/** A function as data. Positions are those of the header of a program file. */
export interface Capture {
  readonly graph: GraphRecord;
  readonly inputs: readonly PortRecord[];
  readonly outputs: readonly PortRecord[];
  readonly leaves: readonly LeafRecord[];
  readonly scalars: readonly ScalarRecord[];
  readonly draws: readonly number[];
  readonly guards: readonly GuardRecord[];
  /** The weights, by the names that `leaves` give them. */
  readonly weights: ReadonlyMap<string, Tensor>;
  /** What a call of the function itself changes. */
  readonly states: readonly Tensor[];
}

/**
 * Takes down `fn` for arguments like `args`; numbers and everything else but tensors are part of it. On the
 * host everything stays as it is: nothing is computed, assigned or counted.
 *
 * @throws TraceError if it reads a value, or does what only the host can do; ArgumentError if names do not
 *   fit.
 */
export function capture(
  fn: (...args: readonly unknown[]) => unknown,
  args: readonly unknown[],
  options: CaptureOptions,
): Capture {
  const onStandIns = mapTree(args, ({ shape, dtype }) => standIn(shape, dtype)) as typeof args;
  const given = flattenTree(onStandIns, { numbers: false }).tensors;
  const once = () =>
    recorded(options.name, fn, onStandIns, (built) => describe(options, args, given, built));
  const { value, restore } = once();
  try {
    // What the host would do differently next time would be stale in a file.
    const next = once();
    next.restore();
    checkSame(options.name, value, next.value);
    return value;
  } finally {
    restore();
  }
}

function describe(
  options: CaptureOptions,
  args: readonly unknown[],
  given: readonly Tensor[],
  { result, made, counted }: Recorded,
): Capture {
  const results = treeLeaves(options.name, 'output', result);
  const wanted = [...results.map(({ tensor }) => tensor.node), ...made.map(({ node }) => node)];
  const { guards, watched } = guardsOf(wanted);
  const roots = separate([...wanted, ...watched]);
  const recorded = recordGraph(roots);
  const draws: Draw[] = [];
  const scalars = recorded.scalars.map((node): ScalarRecord => {
    const random = drawOf(node);
    if (hostValueOf(node) !== null) throw keptOnHost(options.name);
    if (random === null) return { kind: 'number', value: node.value };
    if (!draws.includes(random.draw)) draws.push(random.draw);
    return { kind: 'random', draw: draws.indexOf(random.draw), word: random.word };
  });
  rewind(recorded.scalars);
  const updates = new Map(made.map(({ storage }, i) => [storage, results.length + i]));
  const weights = new Map<string, Tensor>();
  const nameOf = namer(options.module, made, counted, weights);
  const leaves = recorded.leaves.map((leaf): LeafRecord => {
    const input = given.findIndex(({ node }) => node.storage === leaf.storage);
    if (input >= 0) return { kind: 'input', input };
    const storage = leaf.storage as Storage;
    return { kind: 'weight', tensor: nameOf(leaf), update: updates.get(storage) ?? -1 };
  });
  checkUpdates(made, leaves, options.name);
  return {
    graph: recorded.record,
    inputs: portsOf(given, inputPaths(args), options.inputNames, 'input'),
    outputs: portsOf(
      results.map(({ tensor }) => tensor),
      results.map(({ path }) => nameOfPath(path, 'output')),
      options.outputNames,
      'output',
    ),
    leaves,
    scalars,
    draws: draws.map(({ count }) => count),
    guards,
    weights,
    states: made.flatMap(({ holder }) => {
      return isTensor(holder) && !given.includes(holder) && !counted.has(holder) ? [holder] : [];
    }),
  };
}

function keptOnHost(name: string): TraceError {
  return new TraceError(`${name} uses a number that something keeps on the host, like a scale`, {
    op: 'dump',
    hint: 'a program has tensors: leave scalers of losses out of it',
  });
}

/** What is assigned must be read as well: otherwise there is no weight that it could become. */
function checkUpdates(
  made: readonly Assignment[],
  leaves: readonly LeafRecord[],
  name: string,
): void {
  const read = leaves.filter(isState).length;
  if (read === made.length) return;
  throw new ArgumentError(`${name} assigns to a tensor that it does not read`, {
    op: 'dump',
    hint: 'return the value instead',
  });
}

/** Results that are computed, each by a node of its own. */
function separate(roots: readonly Node[]): Node[] {
  const seen = new Set<Node>();
  return roots.map((root) => {
    const isEnd = root.storage !== null || root.op.lower.kind === 'leaf';
    if (!isEnd && !seen.has(root)) {
      seen.add(root);
      return root;
    }
    return ops.copy(root);
  });
}

/** Least and most of what the graph promises, and what they have to be. */
function guardsOf(roots: readonly Node[]): { guards: GuardRecord[]; watched: Node[] } {
  const linear = new Linearization();
  linear.reset();
  for (const root of roots) linear.add(root);
  const promises = linear.promises.filter((node) => node.op.lower.kind !== 'region');
  const guards: GuardRecord[] = [];
  const watched: Node[] = [];
  for (const promise of [...promises, ...linear.nodes.flatMap(regionGuards)]) {
    const stated: StatedPromise | null = promise.op.promise?.stated(promise) ?? null;
    if (stated === null || guards.some((known) => known === stated)) continue;
    guards.push({ dtype: (promise.inputs[0] as Node).dtype, ...stated });
    watched.push(...watchedOf([promise]));
  }
  return { guards, watched };
}

/** Gives back the places in random streams that recording took. */
function rewind(scalars: readonly Node[]): void {
  for (const node of scalars) {
    const random = drawOf(node);
    if (random === null || random.word !== 2) continue;
    const { generator } = random.draw;
    const { seed, offset } = generator.getState();
    const high = scalars.find((other) => {
      const place = drawOf(other);
      return place?.draw === random.draw && place.word === 3;
    });
    const first = node.value + (high?.value ?? 0) * 2 ** 32;
    if (first < offset) generator.setState({ seed, offset: first });
  }
}

/** Names of weights: the module's, else numbers; tensors of the same storage have one. */
function namer(
  module: WeightNames | undefined,
  made: readonly Assignment[],
  counted: ReadonlyMap<Tensor, string>,
  weights: Map<string, Tensor>,
): (leaf: Node) => string {
  // What was assigned to has its new value now, which is not stored yet.
  const assigned = new Map(made.map(({ node, storage }) => [node, storage]));
  const known = new Map<unknown, string>();
  const taken = new Set<string>();
  const give = ({ node }: Tensor, name: string): void => {
    const storage = node.storage ?? assigned.get(node);
    taken.add(name);
    if (storage !== undefined) known.set(storage, name);
  };
  if (module !== undefined) {
    for (const [name, tensor] of module.namedParameters()) give(tensor, name);
    for (const [name, tensor] of module.namedBuffers()) give(tensor, name);
  }
  for (const [tensor, name] of counted) {
    give(tensor, taken.has(name) ? numbered(name, taken, 2) : name);
  }
  const used = new Set<unknown>();
  return (leaf) => {
    let name = known.get(leaf.storage);
    if (name === undefined) {
      name = numbered('weight', taken, used.size);
      taken.add(name);
      known.set(leaf.storage, name);
    }
    used.add(leaf.storage);
    weights.set(name, tensorOn(leaf));
    return name;
  };
}

/** A name that nobody has: with the first such number from `first` on. */
function numbered(name: string, taken: ReadonlySet<string>, first: number): string {
  let number = first;
  while (taken.has(`${name}${number}`)) number++;
  return `${name}${number}`;
}

// ---- names ------------------------------------------------------------------------------------

/** `carry[0].h` under `output`: `carry.0.h`; the only result is `output` itself. */
function nameOfPath(path: string, root: string): string {
  const inner = path.slice(root.length).replaceAll('[', '.').replaceAll(']', '');
  return inner === '' ? root : inner.slice(1);
}

/** A name for each tensor among arguments: `input`, or its key, or its number. */
function inputPaths(args: readonly unknown[]): string[] {
  const paths: string[] = [];
  const visit = (value: unknown, path: string): void => {
    if (isTensor(value)) paths.push(path);
    else if (Array.isArray(value)) value.forEach((item, i) => visit(item, `${path}.${i}`));
    else if (isBranch(value)) {
      const prefix = args.length === 1 && path === '0' ? '' : `${path}.`;
      for (const [key, item] of Object.entries(value)) visit(item, `${prefix}${key}`);
    }
  };
  args.forEach((arg, i) => visit(arg, String(i)));
  if (paths.length === 1 && /^\d/.test(paths[0] as string)) return ['input'];
  return paths.map((path) =>
    /^\d/.test(path) ? `input${path.replace(/^(\d+)\.?/, '$1.')}`.replace(/\.$/, '') : path,
  );
}

function portsOf(
  tensors: readonly Tensor[],
  paths: readonly string[],
  names: readonly string[] | undefined,
  what: string,
): PortRecord[] {
  if (names !== undefined && names.length !== tensors.length) {
    const list = tensors.map(({ dtype, shape }) => `${dtype} ${formatShape(shape)}`).join(', ');
    throw new ArgumentError(`${names.length} names for ${tensors.length} ${what}s: ${list}`, {
      op: 'dump',
    });
  }
  const ports = tensors.map(({ dtype, shape }, i) => ({
    name: names?.[i] ?? (paths[i] as string),
    dtype,
    shape,
  }));
  const twice = ports.find(({ name }, i) => ports.some((other, k) => k < i && other.name === name));
  if (twice !== undefined) {
    throw new ArgumentError(`two ${what}s are called '${twice.name}'`, {
      op: 'dump',
      hint: `pass names: { ${what}s: [...] }`,
    });
  }
  return ports;
}
