// Functions a module gets when a kernel needs them: integer division that never traps, and fmod.
import type { FunctionBuilder, ModuleBuilder } from './encoder.ts';

type HelperName =
  | 'divideSigned'
  | 'divideUnsigned'
  | 'remainderSigned'
  | 'remainderUnsigned'
  | 'fmod';

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
    const f =
      name === 'fmod'
        ? this.#module.function(['f64', 'f64'], ['f64'])
        : this.#module.function(['i32', 'i32'], ['i32']);
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
  fmod,
};

function guardZero(f: FunctionBuilder): void {
  f.get(1).op('i32.eqz').if().i32(0).op('return').end();
}

const EXPONENT = 0x7ff0000000000000n;
const BELOW_EXPONENT = 0x000fffffffffffffn;

/**
 * C's fmod. Subtracts the divisor, scaled by the largest power of two that fits, until less than
 * the divisor is left; each subtraction is exact because it at least halves the rest.
 */
function fmod(f: FunctionBuilder): void {
  const rest = f.local('f64');
  const divisor = f.local('f64');
  const scaled = f.local('f64');
  f.get(0).op('f64.abs').set(rest).get(1).op('f64.abs').set(divisor);
  // NaN operands, an infinite dividend or a zero divisor give NaN.
  f.get(divisor).f64(0).op('f64.gt').op('i32.eqz');
  f.get(rest).f64(Infinity).op('f64.lt').op('i32.eqz').op('i32.or');
  f.if().f64(NaN).op('return').end();
  f.block().loop();
  f.get(rest).get(divisor).op('f64.lt').brIf(1);
  // The divisor with the rest's exponent, unless it has none of its own (subnormals).
  f.get(divisor).op('i64.reinterpret_f64').i64(EXPONENT).op('i64.and').op('i64.eqz');
  f.if('f64').get(divisor).else();
  f.get(divisor).op('i64.reinterpret_f64').i64(BELOW_EXPONENT).op('i64.and');
  f.get(rest).op('i64.reinterpret_f64').i64(EXPONENT).op('i64.and').op('i64.or');
  f.op('f64.reinterpret_i64').end().set(scaled);
  f.get(scaled).get(rest).op('f64.gt').if();
  f.get(scaled).f64(0.5).op('f64.mul').set(scaled).end();
  f.block().loop();
  f.get(scaled).get(scaled).op('f64.add').get(rest).op('f64.gt').brIf(1);
  f.get(scaled).get(scaled).op('f64.add').set(scaled).br(0);
  f.end().end();
  f.get(rest).get(scaled).op('f64.sub').set(rest).br(0);
  f.end().end();
  f.get(rest).get(0).op('f64.copysign');
}
