// Programs as graphs to look into and to change (docs/surgery.md).
export {
  type InputsLike,
  loadProgram,
  type LoadProgramOptions,
  programOf,
  type ProgramOptions,
} from './make.ts';
export type { WeightNames } from '../transform/dumping.ts';
export type { Pattern, PatternTree } from './patterns.ts';
export { Program } from './program.ts';
export type { Ends, ProgramDumpOptions, ReplaceOptions } from './options.ts';
export { type NodeAttr, ProgramNode } from './program-node.ts';
export type { ProgramPort } from './program-parts.ts';
export type { BranchName } from './bodies.ts';
export type { Replacement } from './splice.ts';
