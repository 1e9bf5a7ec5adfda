// A program that is run without the function that built it: recorded once, its nodes are made again on
// new inputs, which takes a fraction of a microsecond each, and evaluated like any others.
import type { Node } from '../../../graph/node.ts';
import { input } from '../../../graph/ops/leaf.ts';
import { ownerOf, tensorOn } from '../../tensor/handle.ts';
import { watched } from '../../tensor/engine.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { EvaluationObserver } from '../observers.ts';
import { checkReplayable, fillTree, tensorsOf, mapTree, treeWithHoles } from '../tree.ts';
import { hasEffect, type Instruction, operandsOf, Run, type Target } from './instructions.ts';
import { type Guard, Recorder, type RecorderOptions } from './recorder.ts';
import { observed } from './tape.ts';

/** A result: what the tensor that is returned stands for. */
type Output =
  | { readonly kind: 'node'; readonly position: number }
  /** An argument, or a parameter, itself. */
  | { readonly kind: 'target'; readonly target: Target };

/** What a recording is made of. */
export interface Recorded {
  readonly instructions: readonly Instruction[];
  readonly lines: readonly string[];
  readonly outputs: readonly Output[];
  readonly guards: readonly Guard[];
  /** The result with holes in place of its tensors. */
  readonly template: unknown;
}

export class Replay {
  readonly recorded: Recorded;
  readonly #name: string;
  /** Whether shapes follow from other sizes, and were not yet seen to be right. */
  #isUnproven: boolean;

  constructor(name: string, recorded: Recorded, isUnproven = false) {
    this.#name = name;
    this.recorded = recorded;
    this.#isUnproven = isUnproven;
  }

  /** Whether the tensors whose gradients it reads have some, or none, as when it was recorded. */
  fits(args: readonly Tensor[]): boolean {
    const tensorOf = (target: Target): Tensor =>
      target.kind === 'owner' ? target.owner : (args[target.index] as Tensor);
    return this.recorded.guards.every(
      ({ target, isNull }) => (tensorOf(target).grad === null) === isNull,
    );
  }

  run(args: readonly Tensor[]): unknown {
    const { instructions, outputs, template } = this.recorded;
    const run = new Run(this.#name, args);
    run.run(instructions, this.#isUnproven);
    this.#isUnproven = false;
    return fillTree(template, (index) => {
      const output = outputs[index] as Output;
      return output.kind === 'target'
        ? run.tensorOf(output.target)
        : tensorOn(run.node(output.position));
    });
  }
}

/** What one recording call gave. */
export interface RecordedCall {
  readonly replay: Replay;
  readonly result: unknown;
  readonly recorder: Recorder;
}

/**
 * Calls `body` with the arguments' tensors, and takes down what it does. Values that the function might
 * also close over are told apart from arguments by giving it tensors of its own for those.
 */
export function recordCall(
  args: readonly unknown[],
  options: RecorderOptions,
  body: (args: readonly unknown[]) => unknown,
  around: EvaluationObserver | null,
): RecordedCall {
  const originals: Tensor[] = [];
  const seen: Tensor[] = [];
  const given = mapTree(args, (tensor) => {
    originals.push(tensor);
    const own = aliasOf(tensor);
    seen.push(own);
    return own;
  }) as readonly unknown[];
  const recorder = new Recorder(seen, options);
  const call = (): unknown => {
    watched.current = recorder;
    try {
      const result = recorder.during(() => body(given));
      checkReplayable(options.name, result);
      return result;
    } catch (error) {
      recorder.cancel();
      throw error;
    } finally {
      watched.current = null;
    }
  };
  const result = around === null ? call() : observed(around, call);
  const replay = new Replay(options.name, recordedOf(recorder, result, seen));
  // What was assigned to a tensor of its own is the argument's.
  seen.forEach((own, i) => {
    const original = originals[i] as Tensor;
    if (own !== original && recorder.isAssigned(own)) original.assign(tensorOn(own.node));
  });
  const back = mapTree(result, (tensor) => {
    const index = seen.indexOf(tensor);
    return index < 0 ? tensor : originals[index];
  });
  return { replay, result: back, recorder };
}

/** A tensor of its own on a value without history; others as they are. */
function aliasOf(tensor: Tensor): Tensor {
  const { storage, version, shape, dtype, tracked, device, inputs } = tensor.node;
  if (storage === null || tracked || inputs.length > 0 || ownerOf(tensor.node) !== null)
    return tensor;
  return tensorOn(input(storage, version, shape, dtype, false, device));
}

function recordedOf(recorder: Recorder, result: unknown, args: readonly Tensor[]): Recorded {
  const tensors = tensorsOf(result);
  const outputs = tensors.map((tensor) => outputOf(recorder, tensor, args));
  const { instructions, nodes, lines, guards } = recorder;
  const results = new Set<number>();
  for (const output of outputs) if (output.kind === 'node') results.add(output.position);
  const needed = neededOf(instructions, results);
  const positionOf = new Map<Node, number>();
  nodes.forEach((node, i) => {
    if (node !== null && needed[i] === 1) positionOf.set(node, i);
  });
  const kept = instructions.map((instruction, i): Instruction => {
    if (needed[i] !== 1) return { kind: 'skip' };
    if (instruction.kind !== 'op') return instruction;
    const siblings = nodes[i]?.siblings ?? null;
    const places = siblings?.map((node) => positionOf.get(node) ?? -1) ?? null;
    return {
      ...instruction,
      isResult: results.has(i),
      siblings: places !== null && places.every((place) => place >= 0) ? places : null,
    };
  });
  return {
    instructions: kept,
    lines: [...lines],
    outputs,
    guards,
    template: treeWithHoles(result),
  };
}

function outputOf(recorder: Recorder, tensor: Tensor, args: readonly Tensor[]): Output {
  const index = args.indexOf(tensor);
  if (index >= 0) return { kind: 'target', target: { kind: 'argument', index } };
  const { node } = tensor;
  const owner = node.storage === null ? null : ownerOf(node);
  if (owner === tensor) return { kind: 'target', target: { kind: 'owner', owner } };
  return { kind: 'node', position: recorder.result(node) };
}

/** 1 for what leads to a result or an effect. */
function neededOf(instructions: readonly Instruction[], results: ReadonlySet<number>): Uint8Array {
  const needed = new Uint8Array(instructions.length);
  for (let i = instructions.length - 1; i >= 0; i--) {
    const instruction = instructions[i] as Instruction;
    if (hasEffect(instruction) || results.has(i)) needed[i] = 1;
    if (needed[i] === 1) for (const operand of operandsOf(instruction)) needed[operand] = 1;
  }
  return needed;
}
