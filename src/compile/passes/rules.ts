// The rewriting rules of the passes that are on, in the order in which they are tried.
import type { Target } from '../../ir/kernel.ts';
import { foldBatchNorm } from './fold-batch-norm.ts';
import { foldConstants } from './fold-constants.ts';
import type { Rule } from './rewrite.ts';
import { SIMPLIFICATIONS } from './simplify.ts';
import type { Passes } from './switches.ts';

export function rulesFor(target: Target, passes: Passes): readonly Rule[] {
  const rules: Rule[] = [];
  if (passes.constantFolding) rules.push(foldConstants(target));
  if (passes.simplification) rules.push(...SIMPLIFICATIONS);
  // Weights that are scaled in every run would cost more than they save.
  if (passes.batchNormFolding && passes.constantFolding) rules.push(foldBatchNorm);
  return rules;
}
