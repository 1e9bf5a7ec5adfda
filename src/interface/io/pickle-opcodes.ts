// The opcodes of pickles, protocols 0 to 5: each reads its argument and moves values on the stack.
import type { PickleMachine } from './pickle-machine.ts';
import { PickleDict, PickleSet, PickleTuple, type PickleValue } from './pickle-values.ts';

type Opcode = (machine: PickleMachine) => void;

const MAX_DIGITS = 2000;

function tuple(count: number): Opcode {
  return (machine) => {
    const items: PickleValue[] = [];
    for (let i = 0; i < count; i++) items.unshift(machine.pop());
    machine.push(new PickleTuple(items));
  };
}

const text =
  (length: (machine: PickleMachine) => number): Opcode =>
  (machine) =>
    machine.push(machine.cursor.text(length(machine), 'a string'));

const bytes =
  (length: (machine: PickleMachine) => number): Opcode =>
  (machine) =>
    machine.push(machine.cursor.take(length(machine), 'a byte string').slice());

const length8 = (machine: PickleMachine): number => machine.cursor.u8('a length');
const length32 = (machine: PickleMachine): number => machine.cursor.u32('a length');
const length64 = (machine: PickleMachine): number => machine.cursor.u64('a length');

function refuse(name: string): Opcode {
  return (machine) => machine.fail(`the opcode ${name} is not read`);
}

/** Old-style instances: `module`, `name`, and arguments above the mark. Nothing made here has them. */
function instance(machine: PickleMachine): void {
  const module = machine.line();
  machine.global(module, machine.line());
  machine.fail(`the pickle makes an instance of a class of ${module.slice(0, 100)}`);
}

function integerLine(machine: PickleMachine): void {
  const line = machine.line();
  // How protocol 0 writes booleans.
  if (line === '00' || line === '01') machine.push(line === '01');
  else machine.pushBigInt(decimal(machine, line));
}

function decimal(machine: PickleMachine, line: string): bigint {
  if (!/^[+-]?\d+$/.test(line) || line.length > MAX_DIGITS) {
    machine.fail(`'${line.slice(0, 40)}' is no integer`);
  }
  return BigInt(line.startsWith('+') ? line.slice(1) : line);
}

function floatLine(machine: PickleMachine): void {
  const line = machine.line();
  const special = /^([+-]?)(inf|nan)$/.exec(line);
  if (special !== null) {
    const magnitude = special[2] === 'inf' ? Infinity : NaN;
    machine.push(special[1] === '-' ? -magnitude : magnitude);
    return;
  }
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(line)) {
    machine.fail(`'${line.slice(0, 40)}' is no number`);
  }
  machine.push(Number(line));
}

const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\',
  "'": "'",
  '"': '"',
  n: '\n',
  r: '\r',
  t: '\t',
};

/** A string as Python 2's repr writes it. */
function quotedLine(machine: PickleMachine): void {
  const line = machine.line();
  const quote = line[0];
  if (line.length < 2 || (quote !== "'" && quote !== '"') || line.at(-1) !== quote) {
    machine.fail('a string without quotes');
  }
  const inner = line.slice(1, -1).replace(/\\(x[0-9a-fA-F]{2}|[\s\S]?)/g, (_, code: string) => {
    if (code.length === 3) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    return SIMPLE_ESCAPES[code] ?? machine.fail(`unknown escape \\${code} in a string`);
  });
  machine.push(inner);
}

/** A string in Python's raw-unicode-escape. */
function unicodeLine(machine: PickleMachine): void {
  const pattern = /\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g;
  machine.push(
    machine.line().replace(pattern, (_, short: string | undefined, long: string | undefined) => {
      const code = Number.parseInt(short ?? long ?? '', 16);
      return code <= 0x10ffff
        ? String.fromCodePoint(code)
        : machine.fail('a string is not Unicode');
    }),
  );
}

const TABLE: readonly (readonly [code: string | number, run: Opcode])[] = [
  // Numbers and constants
  ['N', (machine) => machine.push(null)],
  [0x88, (machine) => machine.push(true)],
  [0x89, (machine) => machine.push(false)],
  ['I', integerLine],
  [
    'L',
    (machine) => {
      const line = machine.line();
      machine.pushBigInt(decimal(machine, line.endsWith('L') ? line.slice(0, -1) : line));
    },
  ],
  ['J', (machine) => machine.push(machine.cursor.i32('an integer'))],
  ['K', (machine) => machine.push(machine.cursor.u8('an integer'))],
  ['M', (machine) => machine.push(machine.cursor.u16('an integer'))],
  [0x8a, (machine) => machine.pushInteger(length8(machine))],
  [0x8b, (machine) => machine.pushInteger(length32(machine))],
  ['F', floatLine],
  ['G', (machine) => machine.push(machine.cursor.f64('a float', false))],
  // Strings and bytes
  ['S', quotedLine],
  ['V', unicodeLine],
  ['T', text(length32)],
  ['U', text(length8)],
  ['X', text(length32)],
  [0x8c, text(length8)],
  [0x8d, text(length64)],
  ['B', bytes(length32)],
  ['C', bytes(length8)],
  [0x8e, bytes(length64)],
  [0x96, bytes(length64)],
  [0x97, refuse('NEXT_BUFFER')],
  [0x98, refuse('READONLY_BUFFER')],
  // Containers
  ['(', (machine) => machine.mark()],
  [')', tuple(0)],
  [0x85, tuple(1)],
  [0x86, tuple(2)],
  [0x87, tuple(3)],
  ['t', (machine) => machine.push(new PickleTuple(machine.popMark()))],
  [']', (machine) => machine.push([])],
  ['l', (machine) => machine.push(machine.popMark())],
  ['a', (machine) => machine.append([machine.pop()])],
  ['e', (machine) => machine.append(machine.popMark())],
  ['}', (machine) => machine.push(new PickleDict())],
  [
    'd',
    (machine) => {
      const pairs = machine.popMark();
      machine.push(new PickleDict());
      machine.setItems(pairs);
    },
  ],
  [
    's',
    (machine) => {
      const value = machine.pop();
      machine.setItems([machine.pop(), value]);
    },
  ],
  ['u', (machine) => machine.setItems(machine.popMark())],
  [0x8f, (machine) => machine.push(new PickleSet())],
  [0x90, (machine) => machine.addItems(machine.popMark())],
  [
    0x91,
    (machine) => {
      const members = machine.popMark();
      machine.push(new PickleSet());
      machine.addItems(members);
    },
  ],
  // The stack and the memo
  ['0', (machine) => void machine.pop()],
  ['1', (machine) => void machine.popMark()],
  ['2', (machine) => machine.push(machine.top())],
  ['p', (machine) => machine.remember(Number(decimal(machine, machine.line())))],
  ['q', (machine) => machine.remember(machine.cursor.u8('an index'))],
  ['r', (machine) => machine.remember(machine.cursor.u32('an index'))],
  [0x94, (machine) => machine.memoize()],
  ['g', (machine) => machine.recall(Number(decimal(machine, machine.line())))],
  ['h', (machine) => machine.recall(machine.cursor.u8('an index'))],
  ['j', (machine) => machine.recall(machine.cursor.u32('an index'))],
  // Names, calls, references
  [
    'c',
    (machine) => {
      const module = machine.line();
      machine.global(module, machine.line());
    },
  ],
  [
    0x93,
    (machine: PickleMachine) => {
      const name = machine.pop();
      const module = machine.pop();
      if (typeof module !== 'string' || typeof name !== 'string')
        machine.fail('a name is no string');
      machine.global(module, name);
    },
  ],
  ['R', (machine) => machine.call()],
  [0x81, (machine) => machine.call()],
  [0x92, refuse('NEWOBJ_EX')],
  ['b', (machine) => machine.build()],
  ['Q', (machine) => machine.persistent(machine.pop())],
  ['P', (machine) => machine.persistent(machine.line())],
  ['i', instance],
  ['o', refuse('OBJ')],
  [0x82, refuse('EXT1')],
  [0x83, refuse('EXT2')],
  [0x84, refuse('EXT4')],
  // The frame of the pickle
  [
    0x80,
    (machine) => {
      const protocol = machine.cursor.u8('a protocol');
      if (protocol > 5) machine.fail(`protocol ${protocol} of pickles is unknown`);
    },
  ],
  [0x95, (machine) => void length64(machine)],
  ['.', (machine) => machine.stop()],
];

export const OPCODES: ReadonlyMap<number, Opcode> = new Map(
  TABLE.map(([code, run]) => [typeof code === 'string' ? code.charCodeAt(0) : code, run]),
);
