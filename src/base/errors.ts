// Every error Tengen throws on purpose. A message that starts with "internal:" is our own bug.

/** Base of all errors: `op` names the operation, `hint` says what to try. */
export class TengenError extends Error {
  // Spelled out in each class: bundlers rename classes, and users read these names.
  override name: string = 'TengenError';
  readonly op: string | undefined;
  readonly hint: string | undefined;
  constructor(message: string, options: { op?: string; hint?: string; cause?: unknown } = {}) {
    const head = options.op === undefined ? message : `${options.op}: ${message}`;
    const text = options.hint === undefined ? head : `${head}. hint: ${options.hint}`;
    super(text, options.cause === undefined ? undefined : { cause: options.cause });
    this.op = options.op;
    this.hint = options.hint;
  }
}

/** Shapes, axes or indices that do not fit the operation. */
export class ShapeError extends TengenError {
  override name = 'ShapeError';
}
/** An element type the operation does not take. */
export class DTypeError extends TengenError {
  override name = 'DTypeError';
}
/** A device that is missing, or tensors on different devices. */
export class DeviceError extends TengenError {
  override name = 'DeviceError';
}
/** A value whose storage was disposed of, or overwritten by a later step. */
export class DisposedError extends TengenError {
  override name = 'DisposedError';
}
/** A computation that cannot be compiled for the device. */
export class CompileError extends TengenError {
  override name = 'CompileError';
}
/** A traced function that did not build the program that was recorded. */
export class TraceError extends TengenError {
  override name = 'TraceError';
}
/** An argument outside its documented range. */
export class ArgumentError extends TengenError {
  override name = 'ArgumentError';
}
/** A matrix that does not have what was asked for: an inverse, a decomposition. */
export class LinAlgError extends TengenError {
  override name = 'LinAlgError';
}
/** More memory was asked for than the device or the budget has. */
export class OutOfMemoryError extends TengenError {
  override name = 'OutOfMemoryError';
}

/** A memory budget into which no plan was found that fits; `smallest` is one that works. */
export class BudgetError extends OutOfMemoryError {
  override name = 'BudgetError';
  readonly smallest: number;
  constructor(budget: number, smallest: number) {
    super(`${budget} bytes are too few for this plan: the least that works is ${smallest}`, {
      op: 'memoryBudget',
      hint: `{ memoryBudget: ${smallest} }, or a smaller batch`,
    });
    this.smallest = smallest;
  }
}

/** A file that is truncated, malformed or hostile. `offset` is where, in bytes. */
export class FormatError extends TengenError {
  override name = 'FormatError';
  readonly offset: number | undefined;
  constructor(message: string, options: { offset?: number; hint?: string; cause?: unknown } = {}) {
    const place = options.offset === undefined ? '' : ` (at byte ${options.offset})`;
    super(message + place, options);
    this.offset = options.offset;
  }
}

/** An invariant of Tengen itself that does not hold: please report it. */
export function internalError(message: string): Error {
  return new Error(`internal: ${message}`);
}
