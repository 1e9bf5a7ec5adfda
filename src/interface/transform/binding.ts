// Memory for one run of a plan: where the values that it reads are, and where its results go.
import { internalError } from '../../base/errors.ts';
import type { Root } from '../../compile/program.ts';
import type { Linearization } from '../../graph/linearize.ts';
import type { Node } from '../../graph/node.ts';
import type { Device, DeviceBuffer } from '../../runtime/device.ts';
import { defaultDeviceName, getDevice } from '../../runtime/registry.ts';
import type { Storage } from '../../runtime/storage.ts';
import type { Assignment, Entry, Results } from './entry.ts';
import { allocateFor } from './values.ts';

/** Copies of the same host bytes after which they move to the device for good. */
const UPLOADS_BEFORE_PROMOTION = 3;
/** Of any number. */
const GUARD_BYTES = 8;

/** What a tensor among the leaves says; otherwise the default, wherever their values are now. */
export function deviceFor(leaves: readonly Node[]): Device {
  const named = leaves.find(({ device }) => device !== null);
  return getDevice(named?.device ?? defaultDeviceName());
}

/** Binds the stored values that a plan reads. */
export function bindLeaves(entry: Entry, device: Device, leaves: readonly Node[]): void {
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves[i] as Node;
    const storage = leaf.storage as Storage;
    // What no tensor says otherwise of is wherever it is used.
    if (storage.device !== null && storage.device !== device) storage.leaveDevice();
    const present = leaf.version === storage.version;
    if (present && storage.host !== null && storage.persistent) storage.upload(device);
    const buffer = present ? storage.buffer : storage.previousBuffer;
    if (buffer !== null) {
      entry.bindings[i] = buffer;
      continue;
    }
    const host = present ? storage.host : storage.previousHost;
    if (host === null) throw internalError('a leaf without a value');
    entry.bindings[i] = stage(entry, device, i, storage, leaf.version, host);
  }
}

/** Copies host bytes into memory that the plan reuses from run to run. */
function stage(
  entry: Entry,
  device: Device,
  index: number,
  storage: Storage,
  version: number,
  host: Uint8Array,
): DeviceBuffer {
  let buffer = entry.staging[index] ?? null;
  if (entry.stagedStorage[index] === storage && entry.stagedVersion[index] === version) {
    if (buffer !== null) return buffer;
  }
  if (++storage.uploads > UPLOADS_BEFORE_PROMOTION && version === storage.version) {
    storage.upload(device);
    if (storage.buffer !== null) return storage.buffer;
  }
  if (buffer === null) {
    buffer = device.allocate(Math.max(host.byteLength, 1));
    entry.staging[index] = buffer;
  }
  device.write(buffer, 0, host);
  entry.stagedStorage[index] = storage;
  entry.stagedVersion[index] = version;
  return buffer;
}

/** Gives every root a buffer; returns them in root order. */
export function bindRoots(
  entry: Entry,
  device: Device,
  linear: Linearization,
  { rootNodes, assigned, roots, promises }: Results,
): DeviceBuffer[] {
  const outputs: DeviceBuffer[] = [];
  const { rootBindings } = entry.compiled;
  const bind = (buffer: DeviceBuffer): void => {
    entry.bindings[rootBindings[outputs.length] as number] = buffer;
    outputs.push(buffer);
  };
  for (const node of rootNodes) bind(allocateFor(device, node));
  for (let i = 0; i < assigned.length; i++) {
    const { storage, inPlace, node } = assigned[i] as Assignment;
    const root = roots[rootNodes.length + i] as Root;
    // A run that may be found to be wrong overwrites nothing.
    if (promises.length > 0) bind(allocateFor(device, node));
    else if (root.inPlaceOf >= 0) bind(entry.bindings[root.inPlaceOf] as DeviceBuffer);
    else if (inPlace && storage.buffer !== null) bind(storage.buffer);
    else bind(spareBuffer(storage, linear.leaves) ?? allocateFor(device, node));
  }
  for (const position of entry.learnedRoots)
    bind(allocateFor(device, linear.nodes[position] as Node));
  for (let i = 0; i < 2 * promises.length; i++) bind(device.allocate(GUARD_BYTES));
  return outputs;
}

/** The buffer of the version before last's step, unless this very plan reads it. */
function spareBuffer(storage: Storage, leaves: readonly Node[]): DeviceBuffer | null {
  const previous = storage.previousBuffer;
  if (previous === null) return null;
  for (const leaf of leaves) {
    if (leaf.storage === storage && leaf.version === storage.version - 1) return null;
  }
  return previous;
}
