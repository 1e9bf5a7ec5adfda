// Programs as graphs to look into and to change (docs/surgery.md).
export { loadProgram, type LoadProgramOptions, programOf, type ProgramOptions } from './make.ts';
export type { WeightNames } from '../transform/dumping.ts';
export type { Pattern, PatternTree } from './patterns.ts';
export {
  type Ends,
  Program,
  type ProgramDumpOptions,
  type ProgramPort,
  type ReplaceOptions,
} from './program.ts';
export { ProgramNode } from './program-node.ts';
export type { Replacement } from './splice.ts';
