// What devices on a CPU check of the buffers that they are handed: whose they are, whether they still
// are, and that a plan may run with them. Each failure is a bug of the framework.
import { internalError, OutOfMemoryError } from '../base/errors.ts';
import type { DeviceBuffer } from './device.ts';
import type { Plan } from './plan.ts';

/** A buffer that knows its device. */
export class OwnedBuffer implements DeviceBuffer {
  readonly bytes: number;
  readonly owner: object;
  freed = false;
  /** Number of the run that last bound it, negative if for writing: finds what is bound twice. */
  boundIn = 0;

  constructor(owner: object, bytes: number) {
    this.owner = owner;
    this.bytes = bytes;
  }
}

/** `buffer` as its device's own kind. Throws unless it is of `owner`, and not freed. */
export function ownBuffer<B extends OwnedBuffer>(
  kind: abstract new (...args: never[]) => B,
  owner: object,
  buffer: DeviceBuffer,
  op: string,
): B {
  if (!(buffer instanceof kind) || buffer.owner !== owner) {
    throw internalError(`${op}: a buffer of another device`);
  }
  if (buffer.freed) throw internalError(`${op}: a buffer that was freed`);
  return buffer;
}

/** Throws unless the bytes from `byteOffset` are within the buffer. */
export function checkRange(
  buffer: DeviceBuffer,
  byteOffset: number,
  bytes: number,
  op: string,
): void {
  if (byteOffset < 0 || byteOffset + bytes > buffer.bytes) {
    throw internalError(`${op}: bytes ${byteOffset} to ${byteOffset + bytes} of ${buffer.bytes}`);
  }
}

/** Throws unless there is a buffer for each binding of a plan. */
export function checkBindingCount(plan: Plan, bindings: readonly DeviceBuffer[]): void {
  if (bindings.length !== plan.bindings.length) {
    throw internalError(`${bindings.length} bindings for a plan of ${plan.bindings.length}`);
  }
}

/** Throws unless `buffer` may be binding `index` of run number `run`, and notes that it is. */
export function bindBuffer(plan: Plan, index: number, buffer: OwnedBuffer, run: number): void {
  const { bytes, access } = plan.bindings[index] as Plan['bindings'][number];
  if (buffer.bytes < bytes) {
    throw internalError(`binding ${index} has ${buffer.bytes} bytes, the plan wants ${bytes}`);
  }
  // Threads meet only where bindings show a hazard, so two that are one buffer must not write.
  if (Math.abs(buffer.boundIn) === run && (access !== 'read' || buffer.boundIn < 0)) {
    throw internalError(`binding ${index} is a buffer that is bound twice and written`);
  }
  buffer.boundIn = access === 'read' ? run : -run;
}

/** Two regions of a run do not fit at once, though each does alone. */
export function noRoomForBoth(op: string, arenaBytes: number, scratchBytes: number): Error {
  return new OutOfMemoryError(
    `no room for ${arenaBytes} bytes of intermediates beside ${scratchBytes} of scratch memory`,
    { op },
  );
}
