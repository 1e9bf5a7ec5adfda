// What the methods of programs are told.
import type { Tensor } from '../tensor/tensor.ts';
import type { DumpOptions, WeightNames } from '../transform/dumping.ts';
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
