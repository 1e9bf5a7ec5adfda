// What nodes and storages say about values: sizes, where the bytes are, and how results are kept.
import { byteSize } from '../../base/dtype.ts';
import { internalError, OutOfMemoryError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { input } from '../../graph/ops/leaf.ts';
import type { Device, DeviceBuffer } from '../../runtime/device.ts';
import { Storage } from '../../runtime/storage.ts';

/** Results up to this size are copied to the host, where the collector sees them. */
const HOST_RESULT_BYTES = 1 << 20;

/** A leaf on the present version of `storage`, of the kind of `node`. */
export function leafOn(storage: Storage, node: Node): Node {
  const { version, tracked } = storage;
  return input(storage, version, node.shape, node.dtype, tracked, node.device);
}

export function bytesOf(node: Node): number {
  return sizeOf(node.shape) * byteSize(node.dtype);
}

/** Where the value of a node is, on the host or on a device. Throws if another one was stored in its place. */
function placeOf(node: Node): { host: Uint8Array } | { device: Device; buffer: DeviceBuffer } {
  const storage = node.storage as Storage | null;
  if (storage === null) throw internalError('reading a value that was not evaluated');
  storage.check(node.version);
  const isPresent = node.version === storage.version;
  const host = isPresent ? storage.host : storage.previousHost;
  if (host !== null) return { host };
  const buffer = isPresent ? storage.buffer : storage.previousBuffer;
  if (buffer === null || storage.device === null) throw internalError('a value without bytes');
  return { device: storage.device, buffer };
}

/** A copy of the bytes of a node that is computed. */
export async function readValue(node: Node): Promise<Uint8Array> {
  const place = placeOf(node);
  if ('host' in place) return place.host.slice(0, bytesOf(node));
  return place.device.read(place.buffer, 0, bytesOf(node));
}

/** The bytes of a node that is computed, where they lie. Throws where its device is not synchronous. */
export function viewValue(node: Node): Uint8Array {
  const place = placeOf(node);
  const bytes = 'host' in place ? place.host : place.device.view(place.buffer);
  return bytes.subarray(0, bytesOf(node));
}

export function allocateFor(device: Device, node: Node): DeviceBuffer {
  try {
    return device.allocate(Math.max(bytesOf(node), 1));
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    const { allocated, reserved } = device.memory();
    throw new OutOfMemoryError(
      `no room for the result of ${node.op.name} [${node.shape.join(',')}] (${bytesOf(node)} bytes): ${allocated} bytes are held by values, ${reserved} by plans`,
      { cause: error, hint: 'dispose() of large tensors, or use smaller batches' },
    );
  }
}

/** Wraps a finished result: small ones move to the host, where the collector sees their size. */
export function toStorage(device: Device, buffer: DeviceBuffer, node: Node): Storage {
  const bytes = bytesOf(node);
  const storage = new Storage(bytes, null);
  storage.label = `the result of ${node.op.name}`;
  if (!device.collected && device.synchronous && bytes <= HOST_RESULT_BYTES) {
    storage.host = device.view(buffer).slice(0, bytes);
    device.free(buffer);
  } else storage.adoptResult(device, buffer);
  return storage;
}
