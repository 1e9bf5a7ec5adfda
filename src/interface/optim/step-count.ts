// The count of an optimizer's steps in a program that will run without this host: a number of the program's
// state, and what follows from it.
import type { DType } from '../../base/dtype.ts';
import { ArgumentError } from '../../base/errors.ts';
import type { Counting, Formula, Running } from '../tensor/counting.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** A number of the state that moves on with each step of some parameters. */
interface Moving {
  readonly key: string;
  readonly state: Tensor;
  /** Steps of its parameters on the host before the program. */
  readonly start: number;
  readonly params: Set<Tensor>;
  /** Those of the step in the making, and its value after it. */
  readonly updated: Set<Tensor>;
  next: Tensor | null;
  moved: boolean;
}

export class StepCount {
  readonly #program: Counting;
  readonly #moving: Moving[] = [];

  constructor(program: Counting) {
    this.#program = program;
  }

  /** What a formula gives for a parameter at step number `step` of the host, which is this one. */
  value(param: Tensor, step: number, dtype: DType, formula: Formula, running?: Running): Tensor {
    const { math } = this.#program;
    const count = this.#count(param, step);
    const value = running === undefined ? count : this.#running(param, step, count, running);
    return this.#program.cast(formula(math, count, value), dtype);
  }

  #count(param: Tensor, step: number): Tensor {
    const moving = this.#of('step', param, step, () =>
      this.#program.state('optimizer.step', step - 1, 'int32'),
    );
    const next = moving.next ?? this.#move(moving, moving.state.add(1));
    return this.#program.cast(next, 'float64');
  }

  #running(param: Tensor, step: number, count: Tensor, running: Running): Tensor {
    const { name, key } = running;
    const moving = this.#of(`${name} ${key}`, param, step, () =>
      this.#program.state(`optimizer.${name}`, running.at(step - 1), 'float64'),
    );
    const { math } = this.#program;
    return moving.next ?? this.#move(moving, running.next(math, count, moving.state));
  }

  #move(moving: Moving, next: Tensor): Tensor {
    moving.next = next;
    moving.state.assign(next, { inPlace: true });
    return next;
  }

  /** The number of a parameter: its own, or that of others which have made as many steps so far. */
  #of(key: string, param: Tensor, step: number, make: () => Tensor): Moving {
    const own = this.#moving.find((each) => each.key === key && each.params.has(param));
    const shared = this.#moving.find(
      (each) => each.key === key && !each.moved && each.start === step - 1,
    );
    let moving = own ?? shared;
    if (moving === undefined) {
      const common = { params: new Set<Tensor>(), updated: new Set<Tensor>() };
      moving = { key, state: make(), start: step - 1, ...common, next: null, moved: false };
      this.#moving.push(moving);
    }
    moving.params.add(param);
    moving.updated.add(param);
    return moving;
  }

  /** The step is made. Throws ArgumentError if one number would have to count for two. */
  end(): void {
    for (const moving of this.#moving) {
      const { size } = moving.updated;
      if (size > 0 && size < moving.params.size) {
        throw new ArgumentError(
          'parameters that step together once step alone another time: a program has one count for them',
          { op: 'dump', hint: 'use an optimizer for each' },
        );
      }
      if (size === 0) continue;
      moving.updated.clear();
      moving.next = null;
      moving.moved = true;
    }
  }
}
