// Functions a module gets when a kernel needs them: integer division that never traps.
import type { FunctionBuilder, ModuleBuilder } from './encoder.ts';

type HelperName = 'divideSigned' | 'divideUnsigned' | 'remainderSigned' | 'remainderUnsigned';

/** Adds each helper to the module at its first use. */
export class Helpers {
  readonly #module: ModuleBuilder;
  readonly #indices = new Map<HelperName, number>();

  constructor(module: ModuleBuilder) {
    this.#module = module;
  }

  /** The function index of a helper. */
  index(name: HelperName): number {
    const known = this.#indices.get(name);
    if (known !== undefined) return known;
    const f = this.#module.function(['i32', 'i32'], ['i32']);
    this.#indices.set(name, f.index);
    BODIES[name](f);
    return f.index;
  }
}

/** A quotient or remainder by zero is 0; the quotient that overflows wraps. */
const BODIES: Readonly<Record<HelperName, (f: FunctionBuilder) => void>> = {
  divideSigned: (f) => {
    guardZero(f);
    // The most negative number divided by -1 would trap.
    f.get(1).i32(-1).op('i32.eq').if('i32');
    f.i32(0).get(0).op('i32.sub');
    f.else().get(0).get(1).op('i32.div_s').end();
  },
  divideUnsigned: (f) => {
    guardZero(f);
    f.get(0).get(1).op('i32.div_u');
  },
  remainderSigned: (f) => {
    guardZero(f);
    f.get(0).get(1).op('i32.rem_s');
  },
  remainderUnsigned: (f) => {
    guardZero(f);
    f.get(0).get(1).op('i32.rem_u');
  },
};

function guardZero(f: FunctionBuilder): void {
  f.get(1).op('i32.eqz').if().i32(0).op('return').end();
}
