// One call of a function that is taken down as a program: on stand-ins, without computing anything.
import { TraceError } from '../../base/errors.ts';
import { counting } from '../tensor/counting.ts';
import { engine, type HostAction, type NodeHolder } from '../tensor/engine.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Assignment } from '../transform/entry.ts';
import { evaluator } from '../transform/install.ts';
import { nextNodeId } from '../transform/tracing/tape.ts';
import { checkTensorTree } from '../transform/tree.ts';
import { userLine } from '../transform/user-line.ts';
import { ProgramCounting } from './counted.ts';
import { HostWatch } from './host-watch.ts';

/** What was built: results, what was assigned to, and the names of what the program counts. */
export interface Recorded {
  readonly result: unknown;
  readonly made: readonly Assignment[];
  readonly counted: ReadonlyMap<Tensor, string>;
}

/** Refuses what a program cannot do later. */
class Recording extends HostWatch {
  readonly #name: string;

  constructor(name: string) {
    super();
    this.#name = name;
  }

  reading(): void {
    throw this.#refusal(
      'reads a value while it is recorded',
      'return the tensor and read it outside',
    );
  }

  /** Updates are part of the program; they are not made. */
  stepping(): boolean {
    return true;
  }

  /** Optimizers count in tensors meanwhile. Others would do once what they should do in each run. */
  override acting(action: HostAction<unknown>): undefined {
    if (action.snapshot === undefined) {
      throw this.#refusal(
        `does ${action.name}, which changes what only the host knows`,
        'do it outside of the function: a file holds numbers as they are when it is written',
      );
    }
    super.acting(action);
  }

  leaving(action: HostAction<unknown>): () => void {
    // What is done once is done now, and is no part of it.
    if (action.once === true) return () => undefined;
    throw this.#refusal(
      `leaves out ${action.name}, which a program cannot call`,
      'pass what it gives as an argument',
    );
  }

  override gradientRead(holder: NodeHolder, value: Tensor | null): void {
    if (value === null || this.isSet(holder)) return;
    throw this.#refusal(
      'uses a gradient from before the call, which a program does not have',
      'call zeroGrad() before backward(), inside of the function or before dump()',
    );
  }

  #refusal(what: string, hint: string): TraceError {
    const line = userLine();
    const place = line === '' ? '' : ` (at ${line})`;
    return new TraceError(`${this.#name} ${what}${place}`, { op: 'dump', hint });
  }
}

/**
 * Calls `fn` and gives what it built to `use`. Then values and gradients are as before; `restore` puts
 * counts back as well.
 *
 * @throws TraceError for what a program cannot do.
 */
export function recorded<T>(
  name: string,
  fn: (...args: readonly unknown[]) => unknown,
  args: readonly unknown[],
  use: (built: Recorded) => T,
): { readonly value: T; readonly restore: () => void } {
  // Nothing may be pending: what the function assigns to must be told from what stood before.
  engine().step();
  const earlier = new Set(evaluator().pendingAssignments());
  const assignments = (): Assignment[] =>
    evaluator()
      .pendingAssignments()
      .filter((assignment) => !earlier.has(assignment));
  const recording = new Recording(name);
  const first = nextNodeId();
  const program = new ProgramCounting();
  const { current } = counting;
  let isDone = false;
  try {
    counting.current = program;
    const result = recording.during(() => fn(...args));
    checkTensorTree(name, result);
    const value = use({ result, made: assignments(), counted: program.states });
    isDone = true;
    return { value, restore: () => recording.restore() };
  } finally {
    counting.current = current;
    for (const { holder, storage } of assignments()) engine().replaced(holder, storage);
    evaluator().forget(first);
    recording.restoreGradients();
    recording.restore(isDone ? 'stay' : 'back');
  }
}
