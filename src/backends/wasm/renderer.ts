// Renders a prepared kernel as a WebAssembly function that runs a range of its grid.
import { byteSize } from '../../base/dtype.ts';
import { CompileError, internalError } from '../../base/errors.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import type { For, If, Kernel, Statement } from '../../ir/kernel.ts';
import { boundsOf, linearForm } from '../../ir/linear.ts';
import {
  type Address,
  type AddressPlan,
  LOW_BYTES,
  planAddresses,
  type Pointer,
  Scope,
} from './addresses.ts';
import { type Context, wasmTypeOf } from './context.ts';
import type { FunctionBuilder, ModuleBuilder } from './encoder.ts';
import type { Helpers } from './helpers.ts';
import { emitStore } from './memory.ts';
import { emitExpression } from './values.ts';

export interface RenderOptions {
  /** Whether the module may hold relaxed SIMD instructions. */
  readonly relaxed: boolean;
}

export interface RenderedKernel {
  /**
   * Index of the function `(pointer of each buffer..., begin, end)`; kernels with scratch take the
   * address of `scratchBytes` bytes of it as another last argument. All arguments are i32.
   */
  readonly index: number;
  readonly scratchBytes: number;
}

/** Adds a kernel to a module. */
export function renderKernel(
  kernel: Kernel,
  module: ModuleBuilder,
  helpers: Helpers,
  options: RenderOptions,
): RenderedKernel {
  if (kernel.workgroup !== undefined) {
    throw new CompileError(`kernel ${kernel.name} is written for workgroups`, { op: 'wasm' });
  }
  const { scratchBytes, scratchOffsets } = layScratch(kernel);
  const parameterCount = kernel.buffers.length + 2 + (scratchBytes > 0 ? 1 : 0);
  const f = module.function(new Array<'i32'>(parameterCount).fill('i32'));
  new KernelRenderer(kernel, f, helpers, options, scratchOffsets).render();
  return { index: f.index, scratchBytes };
}

function layScratch(kernel: Kernel): { scratchBytes: number; scratchOffsets: Map<Buffer, number> } {
  const scratchOffsets = new Map<Buffer, number>();
  let scratchBytes = 0;
  for (const buffer of kernel.scratch) {
    if (buffer.length === undefined) {
      throw internalError(`scratch array ${buffer.name} of kernel ${kernel.name} has no length`);
    }
    scratchOffsets.set(buffer, scratchBytes);
    scratchBytes += Math.ceil((buffer.length * byteSize(buffer.dtype)) / 64) * 64;
  }
  return { scratchBytes, scratchOffsets };
}

/** A variable for a parameter, which no expression of the kernel refers to by another way. */
function parameterVariable(name: string): Variable {
  return {
    kind: 'variable',
    id: -1,
    name,
    type: 'i32',
    lanes: 1,
    mutable: false,
    min: 0,
    max: Infinity,
  };
}

class KernelRenderer implements Context {
  readonly f: FunctionBuilder;
  readonly helpers: Helpers;
  readonly relaxed: boolean;
  readonly #kernel: Kernel;
  /** Locals with the addresses of scratch arrays. */
  readonly #scratch = new Map<Buffer, number>();
  readonly #locals = new Map<Variable, number>();
  readonly #pointerLocals = new Map<Pointer, number>();
  readonly #scope = new Scope();
  readonly #grid: For;
  readonly #plan: AddressPlan;

  constructor(
    kernel: Kernel,
    f: FunctionBuilder,
    helpers: Helpers,
    options: RenderOptions,
    scratchOffsets: ReadonlyMap<Buffer, number>,
  ) {
    this.#kernel = kernel;
    this.f = f;
    this.helpers = helpers;
    this.relaxed = options.relaxed;
    for (const [buffer, offset] of scratchOffsets) this.#locateScratch(buffer, offset);
    const start = parameterVariable('begin');
    const end = parameterVariable('end');
    this.#grid = { kind: 'for', index: kernel.gridIndex, start, end, step: 1, body: kernel.body };
    this.#plan = planAddresses(this.#grid, [start, end]);
    this.#locals.set(start, kernel.buffers.length);
    this.#locals.set(end, kernel.buffers.length + 1);
    for (const parameter of [start, end]) {
      const order = this.#scope.defineValue(parameter);
      for (const pointer of this.#plan.pointers.at(order)) this.#computePointer(pointer);
    }
  }

  #locateScratch(buffer: Buffer, offset: number): void {
    const parameter = this.#kernel.buffers.length + 2;
    if (offset === 0) {
      this.#scratch.set(buffer, parameter);
      return;
    }
    const local = this.f.local('i32');
    this.f.get(parameter).i32(offset).op('i32.add').set(local);
    this.#scratch.set(buffer, local);
  }

  render(): void {
    this.#for(this.#grid);
  }

  localOf(variable: Variable): number {
    const local = this.#locals.get(variable);
    if (local === undefined) {
      throw internalError(`${this.#kernel.name}: no value for variable ${variable.name}`);
    }
    return local;
  }

  emit(expression: Expression): void {
    emitExpression(this, expression);
  }

  // --- Addresses ---

  address(buffer: Buffer, index: Expression): number {
    const { f } = this;
    const address = this.#scope.resolve(buffer, index, this.#plan.pointers);
    f.get(this.#localOfPointer(address.pointer));
    for (const { atom, bytes } of address.volatile) {
      this.#scaled(atom, bytes);
      f.op('i32.add');
    }
    return this.#immediate(address);
  }

  /** The constant part as an immediate, or added to the address where that could wrap around. */
  #immediate(address: Address): number {
    const offset = address.bytes - address.pointer.bias;
    if (offset >= 0 && (offset <= LOW_BYTES || address.nonNegative)) return offset;
    this.f.i32(offset).op('i32.add');
    return 0;
  }

  #localOfPointer(pointer: Pointer): number {
    if (pointer.parent !== null) {
      const local = this.#pointerLocals.get(pointer);
      if (local === undefined) throw internalError(`${this.#kernel.name}: a pointer out of scope`);
      return local;
    }
    const scratch = this.#scratch.get(pointer.buffer);
    if (scratch !== undefined) return scratch;
    const parameter = this.#kernel.buffers.indexOf(pointer.buffer);
    if (parameter < 0) {
      throw internalError(`${this.#kernel.name}: ${pointer.buffer.name} is not among its buffers`);
    }
    return parameter;
  }

  /** Pushes `expression * factor`. */
  #scaled(expression: Expression, factor: number): void {
    const { f } = this;
    this.emit(expression);
    if (factor === 1) return;
    const powerOfTwo = factor > 0 && factor <= 2 ** 30 && (factor & (factor - 1)) === 0;
    if (powerOfTwo) f.i32(31 - Math.clz32(factor)).op('i32.shl');
    else f.i32(factor).op('i32.mul');
  }

  #addBytes(bytes: number): void {
    if (bytes !== 0) this.f.i32(bytes).op('i32.add');
  }

  /** Computes a pointer whose atoms all have values now. */
  #computePointer(pointer: Pointer): void {
    const { parent } = pointer;
    if (parent === null) return;
    this.f.get(this.#localOfPointer(parent));
    for (const { atom, bytes } of pointer.own) {
      this.#scaled(atom, bytes);
      this.f.op('i32.add');
    }
    this.#addBytes(pointer.bias - parent.bias);
    this.#setPointer(pointer);
  }

  #setPointer(pointer: Pointer): void {
    const local = this.f.local('i32');
    this.#pointerLocals.set(pointer, local);
    this.f.set(local);
  }

  #startPointer(pointer: Pointer): void {
    const { induction } = pointer;
    if (induction === null) return;
    this.f.get(this.#localOfPointer(induction.start));
    this.#addBytes(induction.startBytes + pointer.bias - induction.start.bias);
    this.#setPointer(pointer);
  }

  #releasePointer(pointer: Pointer): void {
    const local = this.#pointerLocals.get(pointer);
    if (local === undefined) return;
    this.f.release(local);
    this.#pointerLocals.delete(pointer);
  }

  // --- Statements ---

  /** Emits statements; variables and pointers defined among them end with them. */
  #block(statements: readonly Statement[]): void {
    const variables: Variable[] = [];
    const pointers: Pointer[] = [];
    for (const statement of statements) this.#statement(statement, variables, pointers);
    for (const variable of variables) {
      this.f.release(this.localOf(variable));
      this.#locals.delete(variable);
    }
    for (const pointer of pointers) this.#releasePointer(pointer);
  }

  #statement(statement: Statement, variables: Variable[], pointers: Pointer[]): void {
    switch (statement.kind) {
      case 'for':
        this.#for(statement);
        break;
      case 'if':
        this.#if(statement);
        break;
      case 'let':
        this.#let(statement.variable, statement.value, variables, pointers);
        break;
      case 'declare':
        this.emit(statement.value);
        this.f.set(this.#newLocal(statement.variable));
        variables.push(statement.variable);
        this.#scope.defineMutable(statement.variable);
        break;
      case 'assign':
        this.emit(statement.value);
        this.f.set(this.localOf(statement.variable));
        break;
      case 'store':
        emitStore(this, statement);
        break;
      case 'multiplyPairs':
        throw internalError('WebAssembly has no products of bfloat16');
      case 'prefetch':
        throw internalError('WebAssembly has no prefetch');
      case 'barrier':
        // One invocation per grid item: nobody to wait for.
        break;
      default:
        statement satisfies never;
    }
  }

  #newLocal(variable: Variable): number {
    const local = this.f.local(wasmTypeOf(variable));
    this.#locals.set(variable, local);
    return local;
  }

  #let(variable: Variable, value: Expression, variables: Variable[], pointers: Pointer[]): void {
    const integer = variable.type === 'i32' && variable.lanes === 1;
    if (!integer || this.#plan.needed.has(variable)) {
      this.emit(value);
      this.f.set(this.#newLocal(variable));
      variables.push(variable);
    }
    const order = this.#scope.defineLet(variable, value);
    for (const pointer of this.#plan.pointers.at(order)) {
      this.#computePointer(pointer);
      pointers.push(pointer);
    }
  }

  #if({ condition, then, otherwise }: If): void {
    const { f } = this;
    this.emit(condition);
    f.if();
    this.#block(then);
    if (otherwise.length > 0) {
      f.else();
      this.#block(otherwise);
    }
    f.end();
  }

  #for(loop: For): void {
    const { f } = this;
    const { index, start, end, step } = loop;
    const trips = tripCount(loop);
    if (trips === 0) {
      this.#skip(loop);
      return;
    }
    const local = this.#newLocal(index);
    this.emit(start);
    f.set(local);
    const endLocal = this.#endLocal(end);
    const pushEnd = (): void => {
      if (endLocal === undefined) this.emit(end);
      else f.get(endLocal);
    };
    const guarded = trips === undefined && !surelyEntered(loop);
    if (guarded) {
      f.block().get(local);
      pushEnd();
      f.op('i32.ge_s').brIf(0);
    }
    const pointers = this.#plan.pointers.at(this.#scope.defineLoop(loop));
    for (const pointer of pointers) this.#startPointer(pointer);
    if (trips !== 1) f.loop();
    for (const pointer of pointers) if (pointer.induction === null) this.#computePointer(pointer);
    this.#block(loop.body);
    if (trips !== 1) {
      for (const pointer of pointers) this.#advance(pointer);
      f.get(local).i32(step).op('i32.add').tee(local);
      pushEnd();
      f.op('i32.lt_s').brIf(0).end();
    }
    if (guarded) f.end();
    for (const pointer of pointers) this.#releasePointer(pointer);
    f.release(local);
    this.#locals.delete(index);
    if (endLocal !== undefined) f.release(endLocal);
  }

  #advance(pointer: Pointer): void {
    if (pointer.induction === null) return;
    const local = this.#localOfPointer(pointer);
    this.f.get(local).i32(pointer.induction.step).op('i32.add').set(local);
  }

  /** A local with the loop's end, unless it is as cheap to push again each time. */
  #endLocal(end: Expression): number | undefined {
    if (end.kind === 'constant' || (end.kind === 'variable' && !end.mutable)) return undefined;
    const local = this.f.local('i32');
    this.emit(end);
    this.f.set(local);
    return local;
  }

  /** Numbers the definitions of a loop that never runs as the analysis did. */
  #skip(loop: For): void {
    this.#scope.defineLoop(loop);
    for (const statement of loop.body) this.#skipStatement(statement);
  }

  #skipStatement(statement: Statement): void {
    switch (statement.kind) {
      case 'for':
        this.#skip(statement);
        break;
      case 'if':
        for (const inner of statement.then) this.#skipStatement(inner);
        for (const inner of statement.otherwise) this.#skipStatement(inner);
        break;
      case 'let':
        this.#scope.defineLet(statement.variable, statement.value);
        break;
      case 'declare':
        this.#scope.defineMutable(statement.variable);
        break;
      case 'assign':
      case 'store':
      case 'multiplyPairs':
      case 'prefetch':
      case 'barrier':
        break;
      default:
        statement satisfies never;
    }
  }
}

/** The number of iterations of a loop with constant bounds. */
function tripCount({ start, end, step }: For): number | undefined {
  if (start.kind !== 'constant' || end.kind !== 'constant') return undefined;
  return Math.max(0, Math.ceil((end.value - start.value) / step));
}

/** Whether the bounds show that a loop runs at least once. */
function surelyEntered({ start, end }: For): boolean {
  const difference = new Map(linearForm(end).terms);
  const startForm = linearForm(start);
  for (const [atom, coefficient] of startForm.terms) {
    difference.set(atom, (difference.get(atom) ?? 0) - coefficient);
  }
  for (const [atom, coefficient] of difference) if (coefficient === 0) difference.delete(atom);
  const constant = linearForm(end).constant - startForm.constant;
  return boundsOf({ terms: difference, constant }).min > 0;
}
