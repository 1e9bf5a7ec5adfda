// Recordings as plain data, so that those of several sizes can be laid over each other, and back.
import { internalError, TraceError } from '../../../base/errors.ts';
import { hashBytes } from '../../../base/hash.ts';
import { formatShape } from '../../../base/shape.ts';
import { type AttrRecord, attrsOf, recordAttrs } from '../../../graph/record.ts';
import { SizeConflict } from '../../../graph/symbolic.ts';
import type { Node } from '../../../graph/node.ts';
import { evaluator } from '../install.ts';
import { fillTree, identityOf, isBranch } from '../tree.ts';
import type { Instruction, Target } from './instructions.ts';
import type { Recorded } from './replay.ts';
import { EntryKey, type Program } from './watch.ts';
import { placeText } from './words.ts';

/** What a recording says in numbers and words; what it holds of objects stands beside it. */
export interface Skeleton {
  readonly instructions: readonly Bone[];
  readonly outputs: readonly string[];
  /** The result, with texts in the places of its tensors. */
  readonly template: unknown;
}

interface Bone {
  readonly kind: string;
  readonly what: string;
  readonly operands: readonly number[];
  readonly attrs: Readonly<Record<string, AttrRecord>>;
  readonly shape: readonly number[];
  readonly number: number;
}

function targetText(target: Target): string {
  return target.kind === 'argument'
    ? `argument ${target.index}`
    : `tensor ${identityOf(target.owner)}`;
}

const NONE = { what: '', operands: [], attrs: {}, shape: [], number: 0 } as const;

function boneOf(instruction: Instruction): Bone {
  const { kind } = instruction;
  switch (kind) {
    case 'op': {
      const { op, inputs, shape, dtype, device, tracking, isResult } = instruction;
      const what = `${op.name} ${dtype} ${device ?? ''} ${tracking}${isResult ? ' result' : ''}`;
      return {
        ...NONE,
        kind,
        what,
        operands: inputs,
        attrs: recordAttrs(instruction) ?? {},
        shape,
      };
    }
    case 'tensor':
    case 'gradient': {
      const { target, form } = instruction;
      const what = `${targetText(target)} ${form.dtype} ${form.tracked}`;
      return { ...NONE, kind, what, shape: form.shape };
    }
    case 'given': {
      const { act, index, form } = instruction;
      const what = `${index} ${form.dtype} ${form.tracked}`;
      return { ...NONE, kind, what, operands: [act], shape: form.shape };
    }
    case 'stored':
      return { ...NONE, kind, what: storedText(instruction.leaf) };
    case 'number':
      return { ...NONE, kind, what: instruction.dtype, number: instruction.value };
    case 'draw': {
      const { generator, count } = instruction.draw;
      return { ...NONE, kind, what: `generator ${identityOf(generator)}`, number: count };
    }
    case 'random':
      return { ...NONE, kind, what: String(instruction.word), operands: [instruction.draw] };
    case 'alias':
      return { ...NONE, kind, what: String(instruction.tracked), operands: [instruction.of] };
    case 'assign':
      return {
        ...NONE,
        kind,
        what: `${targetText(instruction.target)} ${instruction.inPlace}`,
        operands: [instruction.value],
      };
    case 'setGradient': {
      const { target, value } = instruction;
      return { ...NONE, kind, what: targetText(target), operands: value === null ? [] : [value] };
    }
    case 'keep':
      return { ...NONE, kind, operands: [instruction.value] };
    case 'act':
      return { ...NONE, kind, what: instruction.action.name, operands: instruction.inputs };
    case 'argument':
      return { ...NONE, kind, number: instruction.index };
    case 'hostNumber':
    case 'skip':
      return { ...NONE, kind };
    default:
      instruction satisfies never;
      throw internalError('unknown instruction');
  }
}

/** A stored value by what it holds: a function may make the same constant anew at each size. */
function storedText(leaf: Node): string {
  const bytes = evaluator().viewSync(leaf);
  return `${leaf.dtype} ${formatShape(leaf.shape)} of ${bytes.length} bytes ${hashBytes(bytes)}`;
}

export function skeletonOf({ instructions, outputs, template }: Recorded): Skeleton {
  return {
    instructions: instructions.map(boneOf),
    outputs: outputs.map((output) =>
      output.kind === 'node' ? `#${output.position}` : targetText(output.target),
    ),
    template: fillTree(template, (index) => `tensor ${index}`),
  };
}

/** The recording of a skeleton; what it lacks is that of `base`. */
export function recordedOf(skeleton: Skeleton, base: Recorded): Recorded {
  const instructions = base.instructions.map((instruction, i): Instruction => {
    const { shape, attrs, number, operands } = skeleton.instructions[i] as Bone;
    switch (instruction.kind) {
      case 'op': {
        const { op } = instruction;
        return { ...instruction, inputs: operands, shape, attrs: attrsOf(op, { attrs }, i) };
      }
      case 'tensor':
      case 'gradient':
      case 'given':
        return { ...instruction, form: { ...instruction.form, shape } };
      case 'number':
        return { ...instruction, value: number };
      case 'draw':
        return { ...instruction, draw: { ...instruction.draw, count: number } };
      default:
        return instruction;
    }
  });
  return { ...base, instructions, template: mergeTemplate(skeleton.template, base.template) };
}

/** The numbers of one tree, the rest of the other. */
function mergeTemplate(values: unknown, template: unknown): unknown {
  if (typeof template === 'number') return values;
  if (Array.isArray(template)) {
    return template.map((item, i) => mergeTemplate((values as readonly unknown[])[i], item));
  }
  if (!isBranch(template)) return template;
  const named = values as Readonly<Record<string, unknown>>;
  return Object.fromEntries(
    Object.entries(template).map(([key, item]) => [key, mergeTemplate(named[key], item)]),
  );
}

/** Names the operation and its line. */
export function conflictOf(
  error: unknown,
  name: string,
  { instructions, lines }: Recorded,
): unknown {
  if (!(error instanceof SizeConflict)) return error;
  const [part, index, field, ...rest] = error.path;
  let what = 'its result';
  let line = '';
  if (part === 'instructions' && typeof index !== 'number') what = 'the list of its operations';
  else if (part === 'instructions' && typeof index === 'number') {
    const instruction = instructions[index] as Instruction;
    const own = instruction.kind === 'op' ? instruction.op.name : instruction.kind;
    if (field === undefined || field === 'what') what = `operation ${index}`;
    else if (instruction.kind === 'number') what = 'a number';
    else {
      const keys = field === 'attrs' ? rest : [field, ...rest];
      what = `${keys.join('.')} of operation ${index}, ${own},`;
    }
    line = lines[index] ?? '';
  }
  return noProgram(name, `${what} is ${error.text}`, line);
}

export function noProgram(name: string, what: string, line: string): TraceError {
  return new TraceError(
    `${name} is no program for all sizes: ${what}${placeText(line, 'recorded at')}`,
    {
      op: 'trace',
      hint: 'it must compute the same operations at every size, with numbers that are sums of products of the sizes: declare sizes that keep to that, or leave the dimension out',
    },
  );
}

// ---- what is compared -------------------------------------------------------------------------

const pair = new Int32Array(2);
const double = new Float64Array(pair.buffer);

/** The numbers of a program, floats as what they are. */
export function numbersOf({ key }: Program): number[] {
  const numbers: number[] = [];
  for (let i = 0; i < key.length; i++) {
    if (key.floats.has(i)) {
      pair[0] = key.words[i] as number;
      pair[1] = key.words[++i] as number;
      numbers.push(double[0] as number);
    } else numbers.push(key.words[i] as number);
  }
  return numbers;
}

/** The program with these numbers; what it lacks is that of `base`. */
export function programOf(numbers: readonly number[], base: Program): Program {
  const key = new EntryKey();
  let word = 0;
  for (const number of numbers) {
    const isFloat = base.key.floats.has(word);
    if (isFloat) key.float(number);
    else key.push(number);
    word += isFloat ? 2 : 1;
  }
  return { ...base, key };
}

/** The entry of a program that holds its `index`-th number. */
export function entryAt({ key, ends }: Program, index: number): number {
  let word = 0;
  for (let i = 0; i < index; i++) word += key.floats.has(word) ? 2 : 1;
  return ends.findIndex((end) => word < end);
}
