// The stack machine of pickles: values, marks and the memo. It knows how to move values, not what names mean.
import type { Cursor } from './cursor.ts';
import {
  type PickleContext,
  PickleDict,
  PickleFunction,
  type PickleHost,
  type PickleKey,
  PickleSet,
  PickleTuple,
  type PickleValue,
  describePickle,
} from './pickle-values.ts';

/** Lines of the text opcodes, and integers: nothing real is longer. */
const MAX_LINE = 100_000;
const MAX_INTEGER_BYTES = 1024;

/** One pickle while it is read. */
export class PickleMachine implements PickleContext {
  readonly cursor: Cursor;
  private readonly host: PickleHost;
  private readonly stack: PickleValue[] = [];
  private readonly marks: number[] = [];
  private readonly memo = new Map<number, PickleValue>();
  private readonly first: number;
  /** Where the current opcode stands. */
  private opcodeAt = 0;
  private spent = 0;
  private isDone = false;

  constructor(cursor: Cursor, host: PickleHost) {
    this.cursor = cursor;
    this.host = host;
    this.first = cursor.position;
  }

  /** The opcode that is next, or `undefined` after the last. */
  next(): number | undefined {
    if (this.isDone) return undefined;
    this.opcodeAt = this.cursor.position;
    return this.cursor.u8('a pickle without an end');
  }

  fail(reason: string, hint?: string): never {
    return this.cursor.fail(reason, this.opcodeAt, hint);
  }

  spend(items: number): void {
    this.spent += items;
    // What Python writes copies each item at most once, and an item takes at least a byte.
    if (this.spent > this.cursor.position - this.first) {
      this.fail('the pickle copies its contents over and over');
    }
  }

  // ---- what opcodes are made of ----------------------------------------------------------------

  stop(): void {
    this.isDone = true;
    if (this.marks.length > 0) this.fail('the pickle ends within a group');
    if (this.stack.length !== 1) {
      this.fail(`the pickle ends with ${this.stack.length} values instead of one`);
    }
  }

  push(value: PickleValue): void {
    this.stack.push(value);
  }

  /** Values above the last mark: those below it belong to somebody else. */
  private get reach(): number {
    return this.stack.length - (this.marks.at(-1) ?? 0);
  }

  pop(): PickleValue {
    if (this.reach < 1) this.fail('the pickle takes a value from an empty stack');
    return this.stack.pop() as PickleValue;
  }

  top(): PickleValue {
    if (this.reach < 1) this.fail('the pickle refers to a value of an empty stack');
    return this.stack.at(-1) as PickleValue;
  }

  mark(): void {
    this.marks.push(this.stack.length);
  }

  popMark(): PickleValue[] {
    const start = this.marks.pop();
    if (start === undefined) this.fail('the pickle closes a group it did not open');
    return this.stack.splice(start);
  }

  remember(index: number): void {
    this.memo.set(index, this.top());
  }

  memoize(): void {
    this.remember(this.memo.size);
  }

  recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) this.fail(`the pickle recalls entry ${index}, which it did not store`);
    this.push(value);
  }

  global(module: string, name: string): void {
    const value = this.host.find(module, name);
    if (value === undefined) {
      const shown = `${module}.${name}`.slice(0, 200);
      this.fail(`the file refers to '${shown}', which is not read`, this.host.hint);
    }
    this.push(value);
  }

  call(): void {
    const args = this.pop();
    const callee = this.pop();
    if (!(callee instanceof PickleFunction)) {
      this.fail(`the pickle calls ${describePickle(callee)}`);
    }
    if (!(args instanceof PickleTuple)) {
      this.fail(`the pickle calls ${callee.kind} with ${describePickle(args)}`);
    }
    this.push(callee.call(args.items, this));
  }

  /** Attributes of an OrderedDict (versions of modules) are read over; nothing else has any. */
  build(): void {
    this.pop();
    const target = this.top();
    if (!(target instanceof PickleDict)) {
      this.fail(`the pickle sets attributes of ${describePickle(target)}`, this.host.hint);
    }
  }

  persistent(id: PickleValue): void {
    this.push(this.host.persistent(id, this));
  }

  append(values: readonly PickleValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) this.fail(`the pickle appends to ${describePickle(list)}`);
    for (const value of values) list.push(value);
  }

  addItems(values: readonly PickleValue[]): void {
    const set = this.top();
    if (!(set instanceof PickleSet)) this.fail(`the pickle adds to ${describePickle(set)}`);
    for (const value of values) set.items.push(value);
  }

  setItems(pairs: readonly PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof PickleDict)) {
      this.fail(`the pickle sets items of ${describePickle(dict)}`);
    }
    if (pairs.length % 2 !== 0) this.fail('the pickle sets an item without a value');
    for (let i = 0; i < pairs.length; i += 2) {
      const key = pairs[i];
      if (key === undefined || !isKey(key)) {
        this.fail(`a dict has ${describePickle(key)} as key`);
      }
      dict.items.set(key, pairs[i + 1] as PickleValue);
    }
  }

  line(): string {
    return this.cursor.line('a line of the pickle', MAX_LINE);
  }

  /** Two's complement of any length. */
  pushInteger(length: number): void {
    if (length > MAX_INTEGER_BYTES) this.fail(`an integer of ${length} bytes`);
    let value = 0n;
    const bytes = this.cursor.take(length, 'an integer');
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] ?? 0);
    if ((bytes[length - 1] ?? 0) >= 0x80) value -= 1n << BigInt(8 * length);
    this.pushBigInt(value);
  }

  pushBigInt(value: bigint): void {
    const number = Number(value);
    this.push(Number.isSafeInteger(number) ? number : value);
  }
}

function isKey(value: PickleValue): value is PickleKey {
  return value === null || typeof value !== 'object';
}
