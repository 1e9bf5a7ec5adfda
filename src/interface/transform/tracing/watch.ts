// Watches one call of a traced function: takes down what it builds, or compares it with what was
// taken down before, as it is built.
import { dtypeIndex } from '../../../base/dtype.ts';
import { TraceError } from '../../../base/errors.ts';
import type { Node } from '../../../graph/node.ts';
import { KeyWriter, writeAttrs } from '../../../graph/op.ts';
import type { Device } from '../../../runtime/device.ts';
import type { Storage } from '../../../runtime/storage.ts';
import type { HostAction } from '../../tensor/engine.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Assignment, Entry } from '../entry.ts';
import type { EvaluationObserver } from '../observers.ts';
import { evaluator } from '../install.ts';
import { tensorsOf } from '../tree.ts';
import { userLine } from '../user-line.ts';
import { nextNodeId, Tape } from './tape.ts';
import { placeText, stepText } from './words.ts';

/** Knows which of its words are halves of a float. */
export class EntryKey extends KeyWriter {
  readonly floats = new Set<number>();

  override float(value: number): void {
    this.floats.add(this.length);
    super.float(value);
  }
}

/** What a function built: entries of words that must come back, and the words for messages. */
export interface Program {
  readonly key: EntryKey;
  /** Where each entry ends in the key. */
  readonly ends: number[];
  readonly steps: string[];
  readonly lines: string[];
  /** Entries that are numbers: 0, 1 and -1 are constants, others slots. */
  readonly numbers: Set<number>;
}

export function newProgram(): Program {
  return { key: new EntryKey(), ends: [], steps: [], lines: [], numbers: new Set() };
}

/** Whether a node is a number of the user's, as `numberNode` makes them. */
function isNumber({ op, attrs, storage, shape }: Node): boolean {
  if (storage !== null || shape.length > 0) return false;
  if (op.name === 'scalar') return true;
  const value = Math.abs(attrs['value'] as number);
  return op.name === 'full' && (value === 0 || value === 1);
}

/** First words of entries that are no operation. */
const LEAF = -1;
const EVENT = -2;
const ALIAS = -3;

/** What may happen between operations. */
const EVENTS = {
  reading: 'a read',
  stepping: 'a step',
  assigned: 'an assignment',
  leaving: 'a call that is left out',
  result: 'the end',
} as const;
type EventName = keyof typeof EVENTS;
const EVENT_NAMES = Object.keys(EVENTS) as EventName[];

export class Watch extends Tape implements EvaluationObserver {
  readonly #recorded: Program | null;
  readonly #name: string;
  readonly #retrace: boolean;
  /** Each argument's place; twice the same tensor has the first. */
  readonly #arguments = new Map<Node, number>();
  readonly #targets = new Map<Storage, number>();
  readonly #assigned: Assignment[] = [];
  /** What is built now; beyond what was compared only if something is recorded. */
  readonly #now: Program = newProgram();
  /** The plans that ran meanwhile. */
  readonly plans = new Map<Entry, Device>();
  #entries = 0;
  #changed = false;
  /** Whether there is something that the rest of the call must agree with. */
  #compares: boolean;

  constructor(
    recorded: Program | null,
    args: readonly Tensor[],
    options: { readonly name: string; readonly retrace: boolean },
  ) {
    super();
    this.#recorded = recorded;
    this.#compares = recorded !== null;
    this.#name = options.name;
    this.#retrace = options.retrace;
    args.forEach(({ node }, i) => {
      if (!this.#arguments.has(node)) this.#arguments.set(node, i);
    });
  }

  /** The program, if it has to be kept: it is new, or another one than before. */
  get fresh(): Program | null {
    return this.#recorded === null || this.#changed ? this.#now : null;
  }

  /** Whether another program stood here before. */
  get changed(): boolean {
    return this.#changed;
  }

  // ---- what the evaluator tells ---------------------------------------------------------------

  created(node: Node): void {
    this.take(node);
  }

  assigned(assignment: Assignment): void {
    this.#assigned.push(assignment);
    const position = this.take(assignment.node);
    const { storage } = assignment;
    const target = this.#targets.get(storage) ?? this.#targets.size;
    this.#targets.set(storage, target);
    this.#event('assigned', [position, target]);
  }

  reading(nodes: readonly Node[]): void {
    this.#event('reading', this.#takeAll(nodes));
  }

  /** What is pending from before the call is no part of the program: it is computed apart. */
  stepping(): boolean {
    evaluator().computeBefore(this.firstId);
    this.#event('stepping', []);
    return false;
  }

  ran(entry: Entry, device: Device): void {
    this.plans.set(entry, device);
  }

  leaving({ inputs, once }: HostAction<unknown>): () => void {
    if (once !== true) this.#event('leaving', this.#takeAll(inputs.map(({ node }) => node)));
    const first = nextNodeId();
    return () => this.leaveOut(first);
  }

  /** After the call: the results, and nothing that was recorded may be missing. */
  finish(value: unknown): void {
    const tensors = tensorsOf(value);
    this.#event('result', this.#takeAll(tensors.map(({ node }) => node)));
  }

  /** What was to be assigned by a call that failed is not. */
  cancel(): void {
    evaluator().cancelAssignments(this.#assigned);
  }

  // ---- entries --------------------------------------------------------------------------------

  #takeAll(nodes: readonly Node[]): number[] {
    return nodes.map((node) => this.take(node));
  }

  protected emit(node: Node, isLeaf: boolean): number {
    const { key } = this.#now;
    if (node.op.name === 'scalar' && node.storage === null) {
      key.push(node.op.id);
      key.push(dtypeIndex[node.dtype]);
    } else if (isLeaf && this.baseOf(node).length > 0) {
      key.push(ALIAS);
      key.push(this.positions.get(this.baseOf(node)[0] as Node) as number);
      key.push(node.tracked ? 1 : 0);
    } else if (isLeaf) {
      key.push(LEAF);
      key.push(this.#arguments.get(node) ?? -1);
      key.push(dtypeIndex[node.dtype]);
      key.push(node.shape.length);
      for (const size of node.shape) key.push(size);
    } else {
      key.push(node.op.id);
      key.push(node.inputs.length);
      for (const input of node.inputs) key.push(this.positions.get(input) as number);
      writeAttrs(node.op, node.attrs, key);
    }
    const at = this.#entries++;
    if (isNumber(node)) this.#now.numbers.add(at);
    if (this.#agrees(at)) return at;
    const numbers = node.inputs.map((input) => this.positions.get(input) ?? -1);
    return this.#record(at, stepText(node, isLeaf, isLeaf ? [] : numbers));
  }

  #event(name: EventName, positions: readonly number[]): void {
    const { key } = this.#now;
    key.push(EVENT);
    key.push(EVENT_NAMES.indexOf(name));
    key.push(positions.length);
    for (const position of positions) key.push(position);
    const at = this.#entries++;
    if (this.#agrees(at)) return;
    const values = name === 'assigned' ? positions.slice(0, 1) : positions;
    const of = values.length === 0 ? '' : ` of ${values.map((value) => `#${value}`).join()}`;
    this.#record(at, `${EVENTS[name]}${of}`);
  }

  /** Whether the entry that was just written is the recorded one. */
  #agrees(at: number): boolean {
    const recorded = this.#recorded;
    if (recorded === null || !this.#compares || !this.#isRecorded(recorded, at)) return false;
    if (this.#changed) this.#note(recorded.steps[at] as string, recorded.lines[at] as string);
    return true;
  }

  /** An entry that is new, or not what was recorded. */
  #record(at: number, text: string): number {
    const recorded = this.#recorded;
    if (recorded !== null && this.#compares) {
      // A number that becomes 0, 1 or -1, or no longer is, is a constant in place of a slot, or the other way
      // round: another program, of the same structure, with which the rest is compared.
      const onlyNumber = this.#now.numbers.has(at) && recorded.numbers.has(at);
      if (!onlyNumber && !this.#retrace) throw this.#mismatch(recorded, at, text);
      this.#compares = onlyNumber;
      if (!this.#changed) this.#takeOver(recorded, at);
      this.#changed = true;
    }
    this.#note(text, userLine());
    return at;
  }

  /** The first entries, which are those of the recorded program. */
  #takeOver({ ends, steps, lines }: Program, count: number): void {
    const now = this.#now;
    for (let i = 0; i < count; i++) {
      now.ends.push(ends[i] as number);
      now.steps.push(steps[i] as string);
      now.lines.push(lines[i] as string);
    }
  }

  #note(step: string, line: string): void {
    this.#now.ends.push(this.#now.key.length);
    this.#now.steps.push(step);
    this.#now.lines.push(line);
  }

  #isRecorded({ key, ends }: Program, at: number): boolean {
    const now = this.#now.key;
    // After a number became another one, entries stand elsewhere.
    const start = at === 0 ? 0 : (ends[at - 1] as number);
    const own = this.#changed && at > 0 ? (this.#now.ends[at - 1] as number) : start;
    if ((ends[at] as number) - start !== now.length - own) return false;
    for (let i = own; i < now.length; i++) {
      if (key.words[start + i - own] !== now.words[i]) return false;
    }
    return true;
  }

  #mismatch({ steps, lines }: Program, at: number, now: string): TraceError {
    const before = steps[at];
    const line = lines[Math.min(at, lines.length - 1)] ?? '';
    const end = EVENTS.result;
    let what = `operation ${at} is ${now}${placeText(userLine())}, was ${before}`;
    if (before === undefined) what = `operation ${at}, ${now}${placeText(userLine())}, is new`;
    else if (before.startsWith(end) && !now.startsWith(end)) {
      what = `operation ${at}, ${now}${placeText(userLine())}, is new`;
    } else if (now.startsWith(end)) {
      what = before.startsWith(end)
        ? `other results are returned, ${now.slice(end.length)} in place of ${before.slice(end.length)}`
        : `operation ${at}, ${before}, is missing`;
    }
    const place = placeText(line, 'recorded at');
    return new TraceError(`${this.#name} built another program: ${what}${place}`, {
      op: 'trace',
      hint: 'keep what varies in tensors or numbers, or pass { retrace: true }',
    });
  }
}

/** Puts off steps until a call has ended. */
export class Postponed implements EvaluationObserver {
  stepWanted = false;

  stepping(): boolean {
    this.stepWanted = true;
    return true;
  }
}

/** Refuses to compute inside a symbolic call, and puts off its step. */
export class Refusal extends Postponed {
  readonly #name: string;

  constructor(name: string) {
    super();
    this.#name = name;
  }

  reading(): void {
    throw refusedRead(
      this.#name,
      'symbolic functions compute nothing: return the tensor and read it outside, or trace without { symbolic: true }',
    );
  }

  /** What is left out may compute. */
  leaving(): () => void {
    return () => undefined;
  }
}

export function refusedRead(name: string, hint: string): TraceError {
  return new TraceError(`${name} reads a value while it is traced${placeText(userLine())}`, {
    op: 'trace',
    hint,
  });
}
