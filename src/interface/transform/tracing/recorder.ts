// Takes down one call of a function that will be replayed without running it: as it goes along, so that
// what is computed meanwhile, by a step, does not matter.
import { TraceError } from '../../../base/errors.ts';
import type { Node } from '../../../graph/node.ts';
import { isCustomGradient } from '../../../graph/ops/index.ts';
import type { Storage } from '../../../runtime/storage.ts';
import type { HostAction, HostObserver, NodeHolder } from '../../tensor/engine.ts';
import { isTensor, ownerOf } from '../../tensor/handle.ts';
import { hostValueOf } from '../../tensor/host-value.ts';
import { type Draw, drawOf } from '../../tensor/random.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Assignment } from '../entry.ts';
import type { EvaluationObserver } from '../observers.ts';
import { evaluator } from '../install.ts';
import { tensorsOf } from '../tree.ts';
import { userLine } from '../user-line.ts';
import type { Instruction, Target } from './instructions.ts';
import { constantOf } from './constants.ts';
import { nextNodeId, Tape } from './tape.ts';
import { refusedRead } from './watch.ts';
import { placeText } from './words.ts';

/** A gradient that was read before the call had set it: whether there was one decides the program. */
export interface Guard {
  readonly target: Target;
  readonly isNull: boolean;
}

export interface RecorderOptions {
  readonly name: string;
  /** Nothing may be computed: not even what a print asks for. */
  readonly symbolic: boolean;
  /** Closed-over tensors are constants. */
  readonly captureAsConst: boolean;
}

/** Forms of nodes, for what is read anew. */
const formOf = ({ shape, dtype, tracked }: Node) => ({ shape, dtype, tracked });

/** Whether a rule that is a function belongs to something in a body of it. */
function holdsCustomGradient(node: Node): boolean {
  if (isCustomGradient(node)) return true;
  const { op, attrs } = node;
  if (op.lower.kind !== 'region') return false;
  return op.lower.regions(attrs).some(({ body }) => body.nodes.some(holdsCustomGradient));
}

export class Recorder extends Tape implements EvaluationObserver, HostObserver {
  readonly instructions: Instruction[] = [];
  /** The node of each position, or null: until the recording ends. */
  readonly nodes: (Node | null)[] = [];
  readonly lines: string[] = [];
  readonly guards: Guard[] = [];
  readonly #options: RecorderOptions;
  /** What the function was called with: the handles that it sees. */
  readonly #args: readonly Tensor[];
  readonly #draws = new Map<object, number>();
  readonly #gradients = new Set<NodeHolder>();
  readonly #constants = new Map<Storage, Node>();
  readonly #assigned: Assignment[] = [];

  constructor(args: readonly Tensor[], options: RecorderOptions) {
    super();
    this.#args = args;
    this.#options = options;
    args.forEach(({ node }, index) => {
      if (this.positions.has(node)) return;
      this.positions.set(node, this.#push({ kind: 'argument', index }, node));
    });
  }

  /** The number of a result, with everything that leads to it. */
  result(node: Node): number {
    return this.take(node);
  }

  /** Whether the call gave a tensor another value. */
  isAssigned(holder: NodeHolder): boolean {
    return this.#assigned.some((assignment) => assignment.holder === holder);
  }

  cancel(): void {
    evaluator().cancelAssignments(this.#assigned);
  }

  #push(instruction: Instruction, node: Node | null): number {
    this.instructions.push(instruction);
    this.nodes.push(node);
    this.lines.push(instruction.kind === 'argument' ? '' : userLine());
    return this.instructions.length - 1;
  }

  // ---- what is built --------------------------------------------------------------------------

  created(node: Node): void {
    this.take(node);
  }

  protected emit(node: Node, isLeaf: boolean): number {
    return this.#push(isLeaf ? this.#leaf(node) : this.#operation(node), node);
  }

  #operation(node: Node): Instruction {
    const { op, attrs, shape, dtype, device } = node;
    if (node.tracked && op.lower.kind === 'region' && holdsCustomGradient(node)) {
      throw new TraceError(
        `${this.#options.name} has a loop or branch with a custom gradient, which a replay cannot call${placeText(userLine())}`,
        { op: 'trace', hint: 'trace without { withoutHost: true }' },
      );
    }
    const inputs = node.inputs.map((input) => this.positions.get(input) as number);
    const hasHistory = node.inputs.some((input) => input.tracked);
    const tracking = node.tracked === hasHistory ? 'inputs' : node.tracked ? 'forced' : 'cut';
    return {
      kind: 'op',
      op,
      inputs,
      attrs,
      shape,
      dtype,
      device,
      tracking,
      isResult: false,
      siblings: null,
    };
  }

  #leaf(node: Node): Instruction {
    const [base] = this.baseOf(node);
    if (base !== undefined) {
      return { kind: 'alias', of: this.positions.get(base) as number, tracked: node.tracked };
    }
    if (node.storage === null) {
      if (node.op.lower.kind === 'leaf' && (this.isOurs(node) || node.op.name === 'scalar')) {
        return this.#number(node);
      }
      return this.#pending(node);
    }
    return this.#stored(node);
  }

  #number(node: Node): Instruction {
    const random = drawOf(node);
    const draw = random === null ? undefined : this.#draws.get(random.draw);
    if (random !== null && draw !== undefined) return { kind: 'random', draw, word: random.word };
    if (hostValueOf(node) !== null) return { kind: 'hostNumber', slot: node };
    return { kind: 'number', value: node.value, dtype: node.dtype };
  }

  /** A value from before the call, or from what is left out, that is not computed yet. */
  #pending(node: Node): Instruction {
    const holder = this.#holderOf(node);
    if (holder !== null) {
      return this.#given({ kind: 'tensor', target: holder, form: formOf(node) }, node);
    }
    if (node.id >= this.firstId) throw this.#escaped();
    this.#checkNoHistory(node);
    evaluator().computeValues([node]);
    return this.#stored(node);
  }

  #stored(node: Node): Instruction {
    const storage = node.storage as Storage;
    const holder = this.#assigned.find((assignment) => assignment.holder.node === node)?.holder;
    const owner = holder ?? ownerOf(node);
    if (this.#options.captureAsConst && !this.#isMadeHere(node)) return this.#constant(node);
    if (owner === null) {
      if (node.id >= this.firstId && !this.isOurs(node)) throw this.#escaped();
      this.#checkNoHistory(node);
      return { kind: 'stored', leaf: node };
    }
    const { node: now } = owner;
    if (now.storage !== storage || node.version !== now.version) {
      throw new TraceError(
        `${this.#options.name} uses ${storage.label || 'a tensor'} as it was before it was assigned to${placeText(userLine())}`,
        { op: 'trace', hint: 'compute with it before the step' },
      );
    }
    return { kind: 'tensor', target: this.#targetOf(owner), form: formOf(node) };
  }

  /** Host data that the function makes itself. */
  #isMadeHere(node: Node): boolean {
    return this.isOurs(node) && ownerOf(node) === null && (node.storage as Storage).version === 0;
  }

  #constant(node: Node): Instruction {
    const storage = node.storage as Storage;
    let leaf = this.#constants.get(storage);
    if (leaf === undefined) {
      leaf = constantOf(node);
      this.#constants.set(storage, leaf);
    }
    return { kind: 'stored', leaf };
  }

  #given(instruction: Instruction, node: Node): Instruction {
    if (!this.#options.captureAsConst) return instruction;
    evaluator().computeValues([node]);
    return this.#constant(node);
  }

  /** The tensor that stands for a pending value: it was assigned to. */
  #holderOf(node: Node): Target | null {
    const found = evaluator()
      .pendingAssignments()
      .find((assignment) => assignment.node === node);
    return found === undefined ? null : this.#targetOf(found.holder as Tensor);
  }

  #checkNoHistory(node: Node): void {
    if (!node.tracked || node.inputs.length === 0) return;
    throw new TraceError(
      `${this.#options.name} uses a result of operations before it that gradients flow through${placeText(userLine())}`,
      { op: 'trace', hint: 'pass it as an argument: a replay would not see the next one' },
    );
  }

  #escaped(): TraceError {
    return new TraceError(
      `${this.#options.name} uses a tensor that was made by what is left out of the trace${placeText(userLine())}`,
      { op: 'trace', hint: 'return it from the function given to excludeFromTrace()' },
    );
  }

  #targetOf(owner: NodeHolder): Target {
    const index = this.#args.findIndex((arg) => arg === owner);
    return index >= 0 ? { kind: 'argument', index } : { kind: 'owner', owner: owner as Tensor };
  }

  // ---- what happens ---------------------------------------------------------------------------

  assigned(assignment: Assignment): void {
    const { holder, node, inPlace } = assignment;
    const target = this.#targetOf(holder);
    const before = this.positions.get(holder.node);
    if (this.#options.captureAsConst && !(isTensor(holder) && this.isOurs(holder.node))) {
      throw new TraceError(
        `${this.#options.name} assigns to ${assignment.storage.label || 'a tensor'}, but what it closes over is constant${placeText(userLine())}`,
        { op: 'trace', hint: 'call model.eval(), or trace without { captureAsConst: true }' },
      );
    }
    // What was taken for a value that nobody changes is this tensor's.
    if (before !== undefined && this.instructions[before]?.kind === 'stored') {
      this.instructions[before] = { kind: 'tensor', target, form: formOf(holder.node) };
    }
    this.#assigned.push(assignment);
    this.#push({ kind: 'assign', target, value: this.take(node), inPlace }, null);
  }

  replaced(): void {
    throw new TraceError(
      `${this.#options.name} writes numbers into a tensor, which a replay would not do${placeText(userLine())}`,
      { op: 'trace', hint: 'assign() a tensor, or do it in excludeFromTrace()' },
    );
  }

  kept(node: Node): void {
    this.#push({ kind: 'keep', value: this.take(node) }, null);
  }

  reading(nodes: readonly Node[], background: boolean): void {
    if (!background || this.#options.symbolic) {
      throw refusedRead(
        this.#options.name,
        'what is read would not be read again: return the tensor and read it outside, or use excludeFromTrace()',
      );
    }
    // A print: nobody can wait for it here.
    for (const node of nodes) this.take(node);
  }

  gradientRead(holder: NodeHolder, value: Tensor | null): void {
    const target = this.#targetOf(holder);
    if (!this.#gradients.has(holder)) {
      this.#gradients.add(holder);
      this.guards.push({ target, isNull: value === null });
    }
    if (value === null || this.positions.has(value.node) || this.isOurs(value.node)) return;
    const { node } = value;
    this.positions.set(node, this.#push({ kind: 'gradient', target, form: formOf(node) }, node));
  }

  gradientWritten(holder: NodeHolder, value: Tensor | null): void {
    this.#gradients.add(holder);
    const position = value === null ? null : this.take(value.node);
    this.#push({ kind: 'setGradient', target: this.#targetOf(holder), value: position }, null);
  }

  drew(draw: Draw): void {
    this.#draws.set(draw, this.#push({ kind: 'draw', draw }, null));
  }

  acting(action: HostAction<unknown>): (result: unknown) => void {
    return this.#act(action, false);
  }

  leaving(action: HostAction<unknown>): (result: unknown) => void {
    if (action.once !== true) return this.#act(action, true);
    const first = nextNodeId();
    return () => this.leaveOut(first);
  }

  /** What is left out runs again in each replay: it may use no tensor of this very call but its inputs. */
  #trespass({ inputs }: HostAction<unknown>, first: number): EvaluationObserver {
    const allowed = new Set(inputs.map(({ node }) => node));
    const seen = new Set<Node>();
    const check = (node: Node): void => {
      if (seen.has(node) || allowed.has(node)) return;
      seen.add(node);
      if (this.isOurs(node) && node.id < first) {
        throw new TraceError(
          `what is left out of ${this.#options.name} uses a tensor of it that it was not given${placeText(userLine())}`,
          {
            op: 'excludeFromTrace',
            hint: 'pass it as an argument: excludeFromTrace((x) => ..., x)',
          },
        );
      }
      if (node.id >= first) node.inputs.forEach(check);
    };
    return { created: check, reading: (nodes) => nodes.forEach(check) };
  }

  #act(action: HostAction<unknown>, outside: boolean): (result: unknown) => void {
    const { captureAsConst, name } = this.#options;
    if (captureAsConst && !outside) {
      throw new TraceError(
        `${name} does ${action.name}, which a program of constants cannot${placeText(userLine())}`,
        { op: 'trace', hint: 'trace training steps without { captureAsConst: true }' },
      );
    }
    const inputs = action.inputs.map(({ node }) => this.take(node));
    // What is pending from before the call must not become a part of a step inside it.
    evaluator().computeBefore(this.firstId);
    const first = nextNodeId();
    if (action.strict === true) evaluator().observers.push(this.#trespass(action, first));
    // No tensors of this call: the instruction outlives it.
    const kept = { ...action, inputs: [] };
    const act = this.#push({ kind: 'act', action: kept, inputs, outside }, null);
    return (result) => {
      this.leaveOut(first);
      tensorsOf(result).forEach(({ node }, index) => {
        if (this.positions.has(node)) return;
        const given: Instruction = { kind: 'given', act, index, form: formOf(node) };
        this.positions.set(node, this.#push(given, node));
      });
    };
  }
}
