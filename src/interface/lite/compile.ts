// Compiles the graph of a program file for a device and sizes for which the file holds nothing. Loaded
// only then: it brings the compiler with it.
import { FormatError } from '../../base/errors.ts';
import { formatShape, sameShape, type Shape } from '../../base/shape.ts';
import { type Sizes, sizeAt, substituteSizes } from '../../base/size-expression.ts';
import { compile } from '../../compile/compiler.ts';
import type { CompiledProgram, Root } from '../../compile/program.ts';
import type { AlgorithmPolicy } from '../../compile/tune/algorithms.ts';
import { Linearization } from '../../graph/linearize.ts';
import type { Node } from '../../graph/node.ts';
import { input, scalar } from '../../graph/ops/index.ts';
import { type GraphRecord, graphOf, parseGraphRecord } from '../../graph/record.ts';
import type { Target } from '../../ir/kernel.ts';
import { isState, type ModelHeader, type PortRecord } from './header.ts';

export interface ModelCompileOptions {
  /** Without, every operation is a kernel of its own and nothing is simplified. */
  readonly fusion?: boolean;
  /**
   * Numbers of guards that are left out, because what they watch is checked before the run. Without
   * guards, weights are overwritten in their place.
   */
  readonly without?: ReadonlySet<number>;
  /** How schedules of products and convolutions are chosen; default by estimate. */
  readonly algorithms?: AlgorithmPolicy;
  /** Whether what follows from weights that do not change is a plan of its own; default true. */
  readonly prepared?: boolean;
}

/**
 * The program of a header at some sizes of its dimensions, for a target.
 *
 * @throws FormatError if the header's graph is none.
 */
export function compileModel(
  header: ModelHeader,
  sizes: Sizes,
  target: Target,
  options: ModelCompileOptions = {},
): CompiledProgram {
  const { without = new Set<number>(), prepared = true, ...more } = options;
  const record = parseGraphRecord(substituteSizes(header.graph, sizes));
  const { nodes, leaves, scalars, outputs } = nodesOf(header, record, sizes);
  const guarded = header.guards.length > without.size;
  const first = outputs.length - 2 * header.guards.length;
  const roots = outputs.flatMap((node, i): Root[] => {
    if (i >= first && without.has((i - first) >> 1)) return [];
    // Nothing is overwritten where a run can turn out to be wrong.
    const inPlaceOf = guarded ? -1 : leafThatBecomes(header, i);
    return [{ position: nodes.indexOf(node), inPlaceOf }];
  });
  const constants = header.leaves.map((leaf) => leaf.kind === 'weight' && !isState(leaf));
  return compile({ nodes, leaves, scalars, roots }, target, {
    ...more,
    ...(prepared && { constantLeaves: constants }),
  });
}

/** The weight that output `i` of the graph is the next value of, or -1. */
function leafThatBecomes({ leaves }: ModelHeader, i: number): number {
  return leaves.findIndex((leaf) => leaf.kind === 'weight' && leaf.update === i);
}

function nodesOf(
  { leaves: leafRecords, scalars: scalarRecords, inputs, outputs, guards }: ModelHeader,
  record: GraphRecord,
  sizes: Sizes,
) {
  const at = (shape: PortRecord['shape']): Shape => shape.map((size) => sizeAt(size, sizes));
  const ends = (op: string) => record.nodes.filter((node) => node.op === op);
  const leaves = ends('input').map(({ shape, dtype }, i) =>
    input({ storageId: -1 - i }, 0, shape, dtype, false, null),
  );
  const scalars = ends('scalar').map(({ dtype }) => scalar(0, dtype));
  if (leaves.length !== leafRecords.length || scalars.length !== scalarRecords.length) {
    throw new FormatError(
      `the graph has ${leaves.length} inputs and ${scalars.length} numbers, described are ${leafRecords.length} and ${scalarRecords.length}`,
    );
  }
  const updates = leafRecords.filter(isState);
  const wanted = outputs.length + updates.length + 2 * guards.length;
  if (record.outputs.length !== wanted) {
    throw new FormatError(
      `the graph has ${record.outputs.length} outputs, described are ${wanted}`,
    );
  }
  const graph = graphOf(record, leaves, scalars);
  checkOutputs(graph.outputs);
  leafRecords.forEach((leaf, i) => {
    if (leaf.kind === 'weight' && isState(leaf)) {
      checkLike(`weight '${leaf.tensor}'`, graph.outputs[leaf.update], leaves[i] as Node);
    } else if (leaf.kind === 'input') {
      const { name, dtype, shape } = inputs[leaf.input] as PortRecord;
      checkLike(`input '${name}'`, leaves[i], { dtype, shape: at(shape) });
    }
  });
  outputs.forEach(({ name, dtype, shape }, i) => {
    checkLike(`output '${name}'`, graph.outputs[i], { dtype, shape: at(shape) });
  });
  const linear = new Linearization();
  linear.reset();
  for (const output of graph.outputs) linear.add(output);
  return { nodes: linear.nodes, leaves, scalars, outputs: graph.outputs };
}

/** Throws FormatError if the graph has something else in a place than the header says. */
function checkLike(
  what: string,
  node: Node | undefined,
  said: Pick<Node, 'dtype' | 'shape'>,
): void {
  if (node?.dtype === said.dtype && sameShape(node.shape, said.shape)) return;
  const found = node === undefined ? 'nothing' : `${node.dtype} ${formatShape(node.shape)}`;
  throw new FormatError(
    `${what} is said to be ${said.dtype} ${formatShape(said.shape)}, the graph has ${found}`,
  );
}

/** The compiler wants results that are computed, each once. */
function checkOutputs(outputs: readonly Node[]): void {
  const distinct = new Set(outputs);
  if (distinct.size === outputs.length && outputs.every(({ op }) => op.lower.kind !== 'leaf'))
    return;
  throw new FormatError('an output of the graph is an input, or stands twice: copies are missing');
}
