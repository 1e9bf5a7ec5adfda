// From a flow to kernels in the order in which they run, with loops around those that are repeated.
import { byteSize } from '../base/dtype.ts';
import { sizeOf } from '../base/shape.ts';
import type { Node } from '../graph/node.ts';
import { copy } from '../graph/ops/copy.ts';
import type { Target } from '../ir/kernel.ts';
import { explainStages } from './explain.ts';
import type { Flow } from './flow.ts';
import { lowerElementwise } from './lower/elementwise.ts';
import type { GroupOutput } from './lower/emit.ts';
import type { Item, ListedStep } from './items.ts';
import { viewOf } from './lower/group-view.ts';
import type { Memory } from './lower/kernel-builder.ts';
import type { LoweringMemo } from './lower/memo.ts';
import type { Rule } from './passes/rewrite.ts';
import type { Passes } from './passes/switches.ts';
import type { KernelExplanation } from './program.ts';
import { AccessMap } from './schedule/access.ts';
import { formGroups, type Group, type Grouping, keepsRows } from './schedule/group.ts';
import { materialise } from './schedule/materialise.ts';
import { type Order, orderGroups } from './schedule/order.ts';
import { type AlgorithmPolicy, DEFAULT_POLICY } from './tune/algorithms.ts';

/** What holds for all parts of a compilation. */
export interface Compilation {
  readonly target: Target;
  readonly passes: Passes;
  readonly rules: readonly Rule[];
  readonly algorithms: AlgorithmPolicy | undefined;
  readonly memo: LoweringMemo;
  /** What follows from parameters and numbers alone in the whole program's flow. */
  readonly constants: (flow: Flow) => ReadonlySet<Node> | undefined;
  /** What stands in the program for a loop or choice, of which `outputs` are read. */
  readonly listRegion: (
    node: Node,
    outputs: readonly GroupOutput[],
    compilation: Compilation,
    depth: number,
  ) => Item[];
}

/** A flow whose kernels are decided: what fuses with what, and in which order they run. */
export interface Scheduled {
  readonly flow: Flow;
  readonly constants: ReadonlySet<Node> | undefined;
  readonly accesses: AccessMap;
  readonly grouping: Grouping;
  readonly order: Order;
}

/** @param depth how many loops are around the flow. */
export function schedule(flow: Flow, compilation: Compilation, depth: number): Scheduled {
  const { target, passes } = compilation;
  // What stands in a loop runs in every trip, whatever it is made of.
  const constants = depth === 0 ? compilation.constants(flow) : undefined;
  const accesses = new AccessMap(target);
  const facts = { passes, constants };
  const materialised = materialise(flow, accesses, facts);
  const grouping = formGroups(flow, accesses, materialised, facts);
  return { flow, constants, accesses, grouping, order: orderGroups(flow, grouping) };
}

export interface Listing {
  readonly items: readonly Item[];
  /** Values that are written to memory. */
  readonly stored: ReadonlySet<Node>;
}

/** @param depth how many loops are around the flow. */
export function list(
  { flow, constants, accesses, grouping, order }: Scheduled,
  compilation: Compilation,
  depth: number,
): Listing {
  const { target, algorithms, memo, passes } = compilation;
  // What is packed in every run is not packed for nothing.
  const packed = passes.weightPacking ? constants : undefined;
  const policy = passes.algorithmSelection
    ? algorithms
    : { ...DEFAULT_POLICY, ...algorithms, general: true };
  const roots = new Set(flow.roots.map(({ node }) => node));
  const read = readElsewhere(grouping);
  const stored = new Set<Node>();
  const items: Item[] = [];
  for (const group of order.groups) {
    const outputs = outputsOf(group, (node) => roots.has(node) || read.has(node), target);
    for (const { node } of outputs) stored.add(node);
    if ((group.anchors[0] as Node).op.lower.kind === 'region') {
      const anchor = group.anchors[0] as Node;
      const parts = compilation.listRegion(anchor, outputs, compilation, depth);
      items.push(...parts.map((item) => ({ ...item, group: group.id })));
      continue;
    }
    const view = viewOf(group, flow, grouping, target, outputs, {
      algorithms: policy,
      constants: packed,
    });
    const lowered = memo.lower(group, view);
    const explanations = explainStages(group, flow, accesses, grouping, outputs, lowered);
    lowered.stages.forEach((stage, i) => {
      const mayShare = (result: number, operand: number): boolean => {
        const [written, taken] = [stage.memory[result], stage.memory[operand]];
        if (written?.kind !== 'value' || taken?.kind !== 'value') return false;
        const [to, from] = [written.node, taken.node];
        return (
          group.reads.get(from) === true &&
          byteSize(to.dtype) === byteSize(from.dtype) &&
          sizeOf(to.shape) === sizeOf(from.shape)
        );
      };
      const explanation = explanations[i] as KernelExplanation;
      items.push({ stage, mayShare, explanation, group: group.id });
    });
  }
  return { items, stored };
}

/** Values that a group other than their own reads. */
function readElsewhere({ groups }: Grouping): Set<Node> {
  const read = new Set<Node>();
  for (const group of groups) for (const node of group.reads.keys()) read.add(node);
  return read;
}

/** What a group writes: roots and what others read. The rest stays in registers. */
function outputsOf(
  group: Group,
  isWanted: (node: Node) => boolean,
  target: Target,
): readonly GroupOutput[] {
  const reloaded = keepsRows(group, target) ? new Set<Node>() : group.reloaded;
  return group.members
    .filter((node) => isWanted(node) || reloaded.has(node))
    .map((node) => ({ node, memory: { kind: 'value', node } }));
}

/** Copies a value like `node` from one place to another; nothing if it has no elements. */
export function copyStep(
  node: Node,
  from: Memory,
  to: Memory,
  target: Target,
  reason: string,
): ListedStep[] {
  const copied = copy(node);
  const stages = lowerElementwise(
    {
      target,
      anchors: [copied],
      outputs: [{ node: copied, memory: { kind: 'value', node: copied } }],
      isInMemory: (other) => other === node,
      isConstant: () => false,
      name: 'copy',
    },
    6,
  );
  const bytes = sizeOf(node.shape) * byteSize(node.dtype);
  const explanation: KernelExplanation = {
    name: 'copy',
    ops: ['copy'],
    shape: node.shape,
    schedule: 'elementwise',
    flops: 0,
    bytesRead: bytes,
    bytesWritten: bytes,
    reasons: [reason],
  };
  return stages.map(({ kernel }) => ({
    stage: { kernel, memory: kernel.buffers.map(({ access }) => (access === 'read' ? from : to)) },
    mayShare: () => false,
    explanation,
  }));
}
