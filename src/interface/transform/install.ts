// The one evaluator of the process. Importing an entry of the package installs it.
import { setEngine } from '../tensor/engine.ts';
import { installTensor } from '../tensor/tensor.ts';
import { Evaluator } from './evaluator.ts';

let installed: Evaluator | null = null;

/** Makes deferred evaluation work; calling it again changes nothing. */
export function installEvaluator(): Evaluator {
  if (installed === null) {
    installed = new Evaluator();
    setEngine(installed);
    installTensor();
  }
  return installed;
}

/** The evaluator, for counters and explanations. */
export function evaluator(): Evaluator {
  return installEvaluator();
}
