// What a replay does, one after the other: makes nodes again, assigns, acts on the host.
import type { DType } from '../../../base/dtype.ts';
import { internalError, TraceError } from '../../../base/errors.ts';
import { formatShape, sameShape, type Shape } from '../../../base/shape.ts';
import { Node } from '../../../graph/node.ts';
import { type Attrs, type OpDef, withoutTracking } from '../../../graph/op.ts';
import {
  alias,
  copy,
  detach,
  input,
  isCustomGradient,
  scalar,
  setCustomRule,
} from '../../../graph/ops/index.ts';
import type { Storage } from '../../../runtime/storage.ts';
import { engine, type HostAction } from '../../tensor/engine.ts';
import { tensorOn } from '../../tensor/handle.ts';
import { hostValueOf, withHostValue } from '../../tensor/host-value.ts';
import { type Draw, placeWords } from '../../tensor/random.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { evaluator } from '../install.ts';
import { tensorsOf } from '../tree.ts';
import { nextNodeId } from './tape.ts';

/** A tensor that outlives the call: its own, or an argument of it. */
export type Target =
  | { readonly kind: 'owner'; readonly owner: Tensor }
  | { readonly kind: 'argument'; readonly index: number };

/** What a node must look like, for what is read anew. */
interface Form {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly tracked: boolean;
}

export interface OpInstruction {
  readonly kind: 'op';
  readonly op: OpDef;
  readonly inputs: readonly number[];
  readonly attrs: Attrs;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly device: string | null;
  /** Made without tracking, though an input was tracked; or tracked, though no input was. */
  readonly tracking: 'inputs' | 'cut' | 'forced';
  /** A result of the function: a step computes it even if nothing uses it. */
  readonly isResult: boolean;
  /** Nodes that are best computed with it: their positions. */
  readonly siblings: readonly number[] | null;
}

/** Each has a position, the number of its node; what makes none has one too. */
export type Instruction =
  | { readonly kind: 'argument'; readonly index: number }
  /** A parameter, or another tensor that owns its memory, as it is then. */
  | { readonly kind: 'tensor'; readonly target: Target; readonly form: Form }
  /** The gradient that a tensor has then. */
  | { readonly kind: 'gradient'; readonly target: Target; readonly form: Form }
  /** A stored value that nobody can change. */
  | { readonly kind: 'stored'; readonly leaf: Node }
  | { readonly kind: 'number'; readonly value: number; readonly dtype: DType }
  /** A number that the host gives anew. */
  | { readonly kind: 'hostNumber'; readonly slot: Node }
  /** Takes a place in a random stream. */
  | { readonly kind: 'draw'; readonly draw: Draw }
  | { readonly kind: 'random'; readonly draw: number; readonly word: 0 | 1 | 2 | 3 }
  /** The same value with a history of its own. */
  | { readonly kind: 'alias'; readonly of: number; readonly tracked: boolean }
  | OpInstruction
  | {
      readonly kind: 'assign';
      readonly target: Target;
      readonly value: number;
      readonly inPlace: boolean;
    }
  | { readonly kind: 'setGradient'; readonly target: Target; readonly value: number | null }
  | { readonly kind: 'keep'; readonly value: number }
  | {
      readonly kind: 'act';
      readonly action: HostAction<unknown>;
      readonly inputs: readonly number[];
      readonly outside: boolean;
    }
  /** A tensor of what an action returned. */
  | { readonly kind: 'given'; readonly act: number; readonly index: number; readonly form: Form }
  | { readonly kind: 'skip' };

/** Positions that an instruction reads. */
export function operandsOf(instruction: Instruction): readonly number[] {
  switch (instruction.kind) {
    case 'op':
    case 'act':
      return instruction.inputs;
    case 'assign':
    case 'keep':
      return [instruction.value];
    case 'setGradient':
      return instruction.value === null ? [] : [instruction.value];
    case 'random':
      return [instruction.draw];
    case 'alias':
      return [instruction.of];
    case 'given':
      return [instruction.act];
    case 'argument':
    case 'tensor':
    case 'gradient':
    case 'stored':
    case 'number':
    case 'hostNumber':
    case 'draw':
    case 'skip':
      return [];
    default:
      instruction satisfies never;
      throw internalError('unknown instruction');
  }
}

/** Whether something happens even if nobody reads what it makes. */
export function hasEffect({ kind }: Instruction): boolean {
  return ['draw', 'assign', 'setGradient', 'keep', 'act'].includes(kind);
}

/** One replay of instructions. */
export class Run {
  readonly #name: string;
  readonly #args: readonly Tensor[];
  readonly #firstId: number = nextNodeId();
  readonly nodes: (Node | null)[] = [];
  /** Words of draws, and results of actions, by position. */
  readonly #words = new Map<number, readonly number[]>();
  readonly #given = new Map<number, readonly Tensor[]>();

  constructor(name: string, args: readonly Tensor[]) {
    this.#name = name;
    this.#args = args;
  }

  /** With `prove`, shapes are inferred and must be those that the instructions say. */
  run(instructions: readonly Instruction[], prove = false): void {
    let hasSiblings = false;
    for (const instruction of instructions) {
      if (instruction.kind !== 'op') {
        this.nodes.push(this.#make(instruction, this.nodes.length));
        continue;
      }
      const node = this.#operation(instruction);
      if (prove) this.#prove(instruction);
      this.nodes.push(node);
      if (instruction.siblings !== null) hasSiblings = true;
      if (instruction.isResult) engine().created(node);
    }
    if (hasSiblings) this.#relate(instructions);
  }

  #relate(instructions: readonly Instruction[]): void {
    instructions.forEach((instruction, i) => {
      if (instruction.kind !== 'op' || instruction.siblings === null) return;
      const node = this.nodes[i] as Node;
      if (node.storage !== null) return;
      node.siblings = instruction.siblings.map((position) => this.node(position));
    });
  }

  #prove({ op, inputs, attrs, shape }: OpInstruction): void {
    const inferred = op.infer(
      inputs.map((at) => this.node(at)),
      attrs,
    );
    if (sameShape(inferred.shape, shape)) return;
    throw new TraceError(
      `${this.#name} is no program for these sizes: ${op.name} gives ${formatShape(inferred.shape)}, not ${formatShape(shape)}`,
      { op: 'trace', hint: 'leave the dimension out, or declare the sizes that it has' },
    );
  }

  node(position: number): Node {
    const node = this.nodes[position];
    if (node === null || node === undefined) throw internalError('a replay lost a node');
    return node;
  }

  tensorOf(target: Target): Tensor {
    return target.kind === 'owner' ? target.owner : (this.#args[target.index] as Tensor);
  }

  #make(instruction: Exclude<Instruction, OpInstruction>, position: number): Node | null {
    switch (instruction.kind) {
      case 'argument':
        return (this.#args[instruction.index] as Tensor).node;
      case 'tensor':
        return this.#anew(this.tensorOf(instruction.target).node, instruction.form);
      case 'gradient':
        return this.#anew(this.#gradient(instruction.target).node, instruction.form);
      case 'stored':
        return storedAnew(this.#name, instruction.leaf);
      case 'number':
        return scalar(instruction.value, instruction.dtype);
      case 'hostNumber':
        return withHostValue(hostValueOf(instruction.slot) as () => number, instruction.slot.dtype);
      case 'draw':
        this.#words.set(position, placeWords(instruction.draw));
        return null;
      case 'random': {
        const words = this.#words.get(instruction.draw) as readonly number[];
        return scalar(words[instruction.word] as number, 'uint32');
      }
      case 'alias':
        return aliasOf(this.node(instruction.of), instruction.tracked);
      case 'given': {
        const tensor = this.#given.get(instruction.act)?.[instruction.index];
        if (tensor === undefined) throw this.#changed('returns other tensors');
        return this.#anew(tensor.node, instruction.form);
      }
      default:
        this.#effect(instruction, position);
        return null;
    }
  }

  #effect(
    instruction: Extract<Instruction, { kind: 'assign' | 'setGradient' | 'keep' | 'act' | 'skip' }>,
    position: number,
  ): void {
    switch (instruction.kind) {
      case 'assign': {
        const { inPlace, value } = instruction;
        this.tensorOf(instruction.target).assign(tensorOn(this.node(value)), { inPlace });
        return;
      }
      case 'setGradient': {
        const { value } = instruction;
        const gradient = value === null ? null : tensorOn(this.node(value));
        this.tensorOf(instruction.target).grad = gradient;
        return;
      }
      case 'keep':
        engine().keep(this.node(instruction.value));
        return;
      case 'act': {
        const { action, outside } = instruction;
        const inputs = instruction.inputs.map((at) => tensorOn(this.node(at)));
        // What is pending from before the call must not become a part of a step inside it.
        evaluator().computeBefore(this.#firstId);
        const again = { ...action, inputs, run: action.run };
        const result = outside ? engine().outside(again) : engine().act(again);
        this.#given.set(position, tensorsOf(result));
        return;
      }
      case 'skip':
        return;
      default:
        instruction satisfies never;
        throw internalError('unknown instruction');
    }
  }

  #gradient(target: Target): Tensor {
    const { grad } = this.tensorOf(target);
    if (grad === null) throw internalError('a replay without the gradient it was chosen for');
    return grad;
  }

  /** A value as it is now, which must have the form that it had. */
  #anew(node: Node, { shape, dtype, tracked }: Form): Node {
    if (!sameShape(node.shape, shape) || node.dtype !== dtype) {
      throw this.#changed(
        `uses a tensor that is ${node.dtype} ${formatShape(node.shape)} now, was ${dtype} ${formatShape(shape)}`,
      );
    }
    return node.tracked === tracked ? node : aliasOf(node, tracked);
  }

  #changed(what: string): TraceError {
    return new TraceError(`${this.#name} ${what}, since it was recorded`, {
      op: 'trace',
      hint: 'reset() it to record it again',
    });
  }

  #operation({ op, inputs, attrs, shape, dtype, device, tracking }: OpInstruction): Node {
    const operands: Node[] = [];
    let tracked = tracking === 'forced';
    for (let i = 0; i < inputs.length; i++) {
      const operand = this.node(inputs[i] as number);
      operand.consumed = true;
      if (operand.tracked && tracking !== 'cut') tracked = true;
      operands.push(operand);
    }
    const node = new Node(op, operands, attrs, shape, dtype, tracked, device);
    if (tracked && isCustomGradient(node)) {
      setCustomRule(node, () => {
        throw new TraceError(`${this.#name} uses a custom gradient, which a replay cannot call`, {
          op: 'trace',
          hint: 'call backward() inside it, or trace without { withoutHost: true }',
        });
      });
    }
    return node;
  }
}

/** The same value without history: tracked, as if it were a parameter, or not. */
function aliasOf(node: Node, tracked: boolean): Node {
  if (node.storage !== null) return alias(node, tracked);
  if (!tracked) return detach(node);
  const own = withoutTracking(() => copy(node));
  own.tracked = true;
  return own;
}

/** A stored value again; nothing may have taken its place. */
function storedAnew(name: string, { storage, version, shape, dtype, tracked, device }: Node): Node {
  const stored = storage as Storage;
  if (stored.superseded || stored.version !== version) {
    throw new TraceError(
      `${name} uses a ${dtype} tensor ${formatShape(shape)} that was given another value since it was recorded`,
      {
        op: 'trace',
        hint: 'pass it as an argument, or make it an nn.Buffer, whose value is read anew',
      },
    );
  }
  return input(stored, version, shape, dtype, tracked, device);
}
