// A kernel as closures: runs slowly, checks every access, and has no cleverness to go wrong.
import {
  fromBfloat16Bits,
  fromFloat16Bits,
  newTypedArray,
  toBfloat16Bits,
  toFloat16Bits,
  type TypedArray,
} from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import {
  type For,
  type Kernel,
  type MultiplyPairs,
  PAIRS,
  type Statement,
  type Store,
} from '../../ir/kernel.ts';
import { printExpression } from '../../ir/print.ts';
import { forEachStatement } from '../../ir/walk.ts';
import {
  binaryFunction,
  bitcastFunction,
  convertFunction,
  fusedMultiplyAdd,
  unaryFunction,
} from './arithmetic.ts';

/** A scalar, or the lanes of a vector. Bools are 0 and 1. */
type Value = number | readonly number[];
type Evaluate = () => Value;
type Execute = () => void;

/** A kernel ready to run on host arrays. */
export class InterpreterProgram {
  readonly #kernel: Kernel;
  readonly #memory = new Map<Buffer, TypedArray>();
  readonly #expressions = new Map<Expression, Evaluate>();
  readonly #body: Execute;
  /** Variables of the invocation that is running. */
  #frame = new Map<Variable, Value>();
  #frames: Map<Variable, Value>[] = [];

  /** @throws Error `internal:` if the kernel holds functions that were not decomposed. */
  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    const grouped = kernel.workgroup !== undefined;
    this.#body = grouped ? this.#lockstep(kernel.body) : this.#block(kernel.body);
  }

  /**
   * Runs all grid items. `views[i]` is argument `i`, halves as raw bits.
   *
   * @throws Error `internal:` on an access out of range or an integer division by zero.
   */
  run(views: readonly TypedArray[]): void {
    const { buffers, scratch, gridIndex, gridSize, workgroup } = this.#kernel;
    buffers.forEach((buffer, index) => {
      const view = views[index];
      if (view === undefined) throw internalError(`no array for ${buffer.name}`);
      this.#memory.set(buffer, view);
    });
    for (let item = 0; item < gridSize; item++) {
      // Fresh scratch full of NaN: what a kernel did not write it must not read.
      for (const buffer of scratch) {
        const array = newTypedArray(buffer.dtype, buffer.length ?? 0);
        new Uint8Array(array.buffer).fill(0xff);
        this.#memory.set(buffer, array);
      }
      this.#frames = Array.from({ length: workgroup?.size ?? 1 }, (_, invocation) => {
        const frame = new Map<Variable, Value>([[gridIndex, item]]);
        if (workgroup !== undefined) frame.set(workgroup.localIndex, invocation);
        return frame;
      });
      this.#frame = this.#frames[0] ?? this.#frame;
      this.#body();
    }
  }

  // Workgroups: statements without barriers run invocation by invocation; around a barrier, control
  // flow is the same in all invocations, so they can go through it together.

  #lockstep(statements: readonly Statement[]): Execute {
    const steps = statements.map((statement) =>
      holdsBarrier(statement) ? this.#together(statement) : this.#each(this.#statement(statement)),
    );
    return () => steps.forEach((step) => step());
  }

  #each(execute: Execute): Execute {
    return () => {
      for (const frame of this.#frames) {
        this.#frame = frame;
        execute();
      }
    };
  }

  /** What all invocations agree on. */
  #agreed(evaluate: Evaluate): number {
    const values = this.#frames.map((frame) => {
      this.#frame = frame;
      return evaluate();
    });
    const [first] = values;
    if (typeof first !== 'number' || values.some((value) => value !== first)) {
      throw internalError(`kernel ${this.#kernel.name}: a barrier under divergent control flow`);
    }
    return first;
  }

  #together(statement: Statement): Execute {
    switch (statement.kind) {
      case 'barrier':
        return () => {};
      case 'for': {
        const start = this.#expression(statement.start);
        const end = this.#expression(statement.end);
        const body = this.#lockstep(statement.body);
        return () => {
          const last = this.#agreed(end);
          for (let index = this.#agreed(start); index < last; index += statement.step) {
            for (const frame of this.#frames) frame.set(statement.index, index);
            body();
          }
        };
      }
      case 'if': {
        const condition = this.#expression(statement.condition);
        const then = this.#lockstep(statement.then);
        const otherwise = this.#lockstep(statement.otherwise);
        return () => (this.#agreed(condition) === 0 ? otherwise() : then());
      }
      default:
        throw internalError(`${statement.kind} holds no barrier`);
    }
  }

  // Statements.

  #block(statements: readonly Statement[]): Execute {
    const steps = statements.map((statement) => this.#statement(statement));
    return () => {
      for (const step of steps) step();
    };
  }

  #statement(statement: Statement): Execute {
    switch (statement.kind) {
      case 'for':
        return this.#for(statement);
      case 'if': {
        const condition = this.#expression(statement.condition);
        const then = this.#block(statement.then);
        const otherwise = this.#block(statement.otherwise);
        return () => (condition() === 0 ? otherwise() : then());
      }
      case 'let':
      case 'declare':
      case 'assign': {
        const { variable } = statement;
        const value = this.#expression(statement.value);
        return () => this.#frame.set(variable, value());
      }
      case 'store':
        return this.#store(statement);
      case 'multiplyPairs':
        return this.#multiplyPairs(statement);
      case 'prefetch':
      case 'barrier':
        return () => {};
      default:
        statement satisfies never;
        throw internalError('unknown statement');
    }
  }

  #for(statement: For): Execute {
    const { index, step } = statement;
    const start = this.#expression(statement.start);
    const end = this.#expression(statement.end);
    const body = this.#block(statement.body);
    return () => {
      const last = end() as number;
      for (let at = start() as number; at < last; at += step) {
        if (at < index.min || at > index.max) {
          throw internalError(`loop ${index.name} = ${at} outside [${index.min}, ${index.max}]`);
        }
        this.#frame.set(index, at);
        body();
      }
    };
  }

  #store(statement: Store): Execute {
    const { buffer, value } = statement;
    const index = this.#expression(statement.index);
    const stored = this.#expression(value);
    const encode = encoder(buffer);
    return () => {
      const lanes = asLanes(stored());
      const at = index() as number;
      const memory = this.#at(buffer, at, lanes.length, statement.index);
      for (const [lane, number] of lanes.entries()) memory[at + lane] = encode(number);
    };
  }

  #multiplyPairs(statement: MultiplyPairs): Execute {
    const { sums, sumsStride, left, right } = statement;
    const { rows, columns, depth } = PAIRS;
    const at = this.#expression(statement.sumsIndex);
    const leftAt = this.#expression(statement.leftIndex);
    const rightAt = this.#expression(statement.rightIndex);
    const steps = this.#expression(statement.steps);
    return () => {
      const [to, fromLeft, fromRight, count] = [at(), leftAt(), rightAt(), steps()] as number[];
      const [first, a, b] = [to ?? 0, fromLeft ?? 0, fromRight ?? 0];
      const words = (count ?? 0) * depth;
      const memory = this.#at(sums, first, (rows - 1) * sumsStride + columns, statement.sumsIndex);
      const lefts = this.#at(left, a, words * rows, statement.leftIndex);
      const rights = this.#at(right, b, words * columns, statement.rightIndex);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const target = first + row * sumsStride + column;
          let sum = Number(memory[target]);
          for (let word = 0; word < words; word++) {
            const step = Math.floor(word / depth);
            const x = Number(lefts[a + (step * rows + row) * depth + (word % depth)]);
            const y = Number(rights[b + word * columns + column]);
            sum = Math.fround(sum + fromBfloat16Bits(x & 0xffff) * fromBfloat16Bits(y & 0xffff));
            sum = Math.fround(sum + fromBfloat16Bits(x >>> 16) * fromBfloat16Bits(y >>> 16));
          }
          memory[target] = sum;
        }
      }
    };
  }

  /** The array of a buffer, once the access is known to be within it. */
  #at(buffer: Buffer, index: number, count: number, address: Expression): TypedArray {
    const memory = this.#memory.get(buffer);
    if (memory === undefined) throw internalError(`${buffer.name} is not bound`);
    if (index < 0 || index + count > memory.length) {
      throw internalError(
        `kernel ${this.#kernel.name}: ${buffer.name}[${index}..${index + count - 1}] of ` +
          `${memory.length}, at ${printExpression(address).slice(0, 200)}`,
      );
    }
    return memory;
  }

  // Expressions.

  #expression(expression: Expression): Evaluate {
    const known = this.#expressions.get(expression);
    if (known !== undefined) return known;
    const made = this.#compile(expression);
    this.#expressions.set(expression, made);
    return made;
  }

  #compile(expression: Expression): Evaluate {
    switch (expression.kind) {
      case 'constant': {
        const { value, lanes } = expression;
        const constant = lanes === 1 ? value : Array.from({ length: lanes }, () => value);
        return () => constant;
      }
      case 'variable':
        return () => {
          const value = this.#frame.get(expression);
          if (value === undefined) throw internalError(`${expression.name} has no value`);
          return value;
        };
      case 'unary':
        return this.#map1(expression.operand, unaryFunction(expression.op, expression.type));
      case 'binary': {
        const { op, left, right } = expression;
        return this.#map2(left, right, binaryFunction(op, left.type));
      }
      case 'convert':
        return this.#map1(
          expression.operand,
          convertFunction(expression.operand.type, expression.type),
        );
      case 'bitcast':
        return this.#map1(
          expression.operand,
          bitcastFunction(expression.operand.type, expression.type),
        );
      case 'select':
        return this.#map3(
          [expression.condition, expression.whenTrue, expression.whenFalse],
          (condition, whenTrue, whenFalse) => (condition === 0 ? whenFalse : whenTrue),
        );
      case 'fma': {
        const { a, b, c, type } = expression;
        return this.#map3([a, b, c], (x, y, z) => fusedMultiplyAdd(x, y, z, type));
      }
      case 'load':
        return this.#load(expression);
      case 'splat': {
        const operand = this.#expression(expression.operand);
        return () => Array.from({ length: expression.lanes }, () => operand() as number);
      }
      case 'lanes': {
        const operands = expression.operands.map((operand) => this.#expression(operand));
        return () => operands.map((operand) => operand() as number);
      }
      case 'extract': {
        const operand = this.#expression(expression.operand);
        return () => asLanes(operand())[expression.lane] as number;
      }
      default:
        expression satisfies never;
        throw internalError('unknown expression');
    }
  }

  #load(expression: Expression & { kind: 'load' }): Evaluate {
    const { buffer, lanes } = expression;
    const index = this.#expression(expression.index);
    const decode = decoder(buffer);
    return () => {
      const at = index() as number;
      const memory = this.#at(buffer, at, lanes, expression.index);
      if (lanes === 1) return decode(memory[at] as number);
      return Array.from({ length: lanes }, (_, lane) => decode(memory[at + lane] as number));
    };
  }

  #map1(operand: Expression, apply: (value: number) => number): Evaluate {
    const evaluate = this.#expression(operand);
    if (operand.lanes === 1) return () => apply(evaluate() as number);
    return () => asLanes(evaluate()).map(apply);
  }

  #map2(left: Expression, right: Expression, apply: (a: number, b: number) => number): Evaluate {
    const a = this.#expression(left);
    const b = this.#expression(right);
    if (left.lanes === 1) return () => apply(a() as number, b() as number);
    return () => {
      const others = asLanes(b());
      return asLanes(a()).map((value, lane) => apply(value, others[lane] as number));
    };
  }

  #map3(
    operands: readonly [Expression, Expression, Expression],
    apply: (a: number, b: number, c: number) => number,
  ): Evaluate {
    const [a, b, c] = operands.map((operand) => this.#expression(operand)) as [
      Evaluate,
      Evaluate,
      Evaluate,
    ];
    if (operands[0].lanes === 1) {
      return () => apply(a() as number, b() as number, c() as number);
    }
    return () => {
      const second = asLanes(b());
      const third = asLanes(c());
      return asLanes(a()).map((value, lane) =>
        apply(value, second[lane] as number, third[lane] as number),
      );
    };
  }
}

function asLanes(value: Value): readonly number[] {
  return typeof value === 'number' ? [value] : value;
}

function holdsBarrier(statement: Statement): boolean {
  let found = false;
  forEachStatement([statement], ({ kind }) => {
    found ||= kind === 'barrier';
  });
  return found;
}

function decoder(buffer: Buffer): (stored: number) => number {
  if (buffer.dtype === 'float16') return fromFloat16Bits;
  if (buffer.dtype === 'bfloat16') return fromBfloat16Bits;
  return buffer.dtype === 'bool' ? (stored) => (stored === 0 ? 0 : 1) : (stored) => stored;
}

function encoder(buffer: Buffer): (value: number) => number {
  if (buffer.dtype === 'float16') return toFloat16Bits;
  if (buffer.dtype === 'bfloat16') return toBfloat16Bits;
  return (value) => value;
}
