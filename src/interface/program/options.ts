// What the methods of programs are told, and what is refused of it before anything is recorded.
import { checkKeys, checkNumber, checkOption, describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { checkPath } from '../io/atomic-file.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DumpOptions, WeightNames } from '../transform/dumping.ts';
import { isBranch } from '../transform/tree.ts';
import type { ProgramNode } from './program-node.ts';

export interface ReplaceOptions {
  /** What the function is given; default: the inputs of the node. Nothing that is computed from it. */
  readonly inputs?: readonly ProgramNode[];
  /** Tells the names of weights that the function brings along. */
  readonly module?: WeightNames;
}

/** Nodes with the names they get, or a list of nodes, which keep theirs. */
export type Ends = readonly ProgramNode[] | Readonly<Record<string, ProgramNode>>;

/** All options of `dump` but those that the program knows. */
export type ProgramDumpOptions = Omit<DumpOptions, 'inputs' | 'module' | 'names'> & {
  /** Tensors of a call, whose results are kept in the file: the only test case unless `testCases` are given. */
  readonly inputs?: readonly Tensor[];
};

/** Throws ArgumentError unless names of inputs, outputs and weights can be used. */
export function checkNaming(
  op: string,
  { names, module }: Pick<DumpOptions, 'names' | 'module'>,
): void {
  if (names !== undefined) {
    checkKeys(`${op}({ names })`, names, ['inputs', 'outputs']);
    for (const [ends, list] of Object.entries(names)) {
      if (list !== undefined) checkOption(op, `names.${ends}`, list, 'texts');
    }
  }
  if (module === undefined) return;
  const { namedParameters, namedBuffers } = Object(module) as Partial<WeightNames>;
  if (typeof namedParameters === 'function' && typeof namedBuffers === 'function') return;
  throw new ArgumentError(`module must be an nn.Module, got ${describeValue(module)}`, { op });
}

const DUMP = ['inputs', 'names', 'module', 'testCases', 'tolerance', 'numerics', 'metadata'];
/** What a program knows by itself. */
const KNOWN = ['names', 'module'];

/** Throws ArgumentError unless a file can be written like this. A program knows the form of its `inputs`. */
export function checkDumpOptions(
  path: string | URL | null,
  options: DumpOptions,
  of: 'function' | 'program' = 'function',
): void {
  const op = 'dump';
  if (path !== null) checkPath(path, "dump('model.tengen', { inputs: [x] })", op);
  checkKeys(op, options, of === 'program' ? DUMP.filter((name) => !KNOWN.includes(name)) : DUMP);
  checkNaming(op, options);
  const { inputs } = options;
  if (!Array.isArray(inputs) && (of === 'function' || inputs !== undefined)) {
    const what = of === 'function' ? 'arguments' : 'tensors';
    throw new ArgumentError(`inputs are the ${what} of a call, got ${describeValue(inputs)}`, {
      op,
      hint: 'dump(path, { inputs: [x] })',
    });
  }
  const { testCases, tolerance, numerics, metadata } = options;
  if (testCases !== undefined && !(Array.isArray(testCases) && testCases.every(Array.isArray))) {
    throw new ArgumentError(`testCases are lists of arguments, got ${describeValue(testCases)}`, {
      op,
      hint: 'testCases: [[x], [y]]',
    });
  }
  if (tolerance !== undefined) checkNumber(op, 'tolerance', tolerance);
  if (numerics !== undefined) {
    checkOption(op, 'numerics', numerics, 'texts');
    for (const each of numerics) checkOption(op, 'numerics', each, ['fast', 'strict']);
  }
  if (metadata !== undefined) checkMetadata(op, metadata);
}

function checkMetadata(op: string, metadata: unknown): void {
  if (!isBranch(metadata) || Array.isArray(metadata)) {
    throw new ArgumentError(`metadata must be a record, got ${describeValue(metadata)}`, { op });
  }
  try {
    JSON.stringify(metadata);
  } catch (cause) {
    throw new ArgumentError('metadata holds what JSON does not', { op, cause });
  }
}
