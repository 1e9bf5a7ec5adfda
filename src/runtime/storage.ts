// Values that outlive a plan: on the host, on a device, or both, with versions for what is
// overwritten in place.
import { DisposedError } from '../base/errors.ts';
import type { Device, DeviceBuffer } from './device.ts';

/** Device memory of one storage: a finalizer holds this record, never the storage itself. */
class OwnedBuffers {
  readonly device: Device;
  current: DeviceBuffer | null = null;
  previous: DeviceBuffer | null = null;
  /** The value, once it was moved to the host to make room; the storage has yet to notice. */
  moved: Uint8Array | null = null;
  /** Place among the results of the device (see LimitedResults); -1 bytes: not one of them. */
  resultBytes = -1;
  older: OwnedBuffers | null = null;
  newer: OwnedBuffers | null = null;

  constructor(device: Device) {
    this.device = device;
  }

  release(): void {
    limitedResults.get(this.device)?.delete(this);
    if (this.current !== null) this.device.free(this.current);
    if (this.previous !== null) this.device.free(this.previous);
    this.current = null;
    this.previous = null;
  }
}

const finalizers = new FinalizationRegistry<OwnedBuffers>((owned) => owned.release());

/**
 * Most bytes that results hold on a device. Synchronous code never lets finalizers run, so a result
 * that was dropped cannot be told from one that is in use: beyond this the oldest ones move to
 * ordinary arrays, which the collector frees at any time if nobody holds them.
 */
export const RESULT_BYTES = 256 * 1024 * 1024;

/**
 * The results on a device whose values may be moved to the host, oldest first. A list through the
 * records themselves: a map's outgrown tables would keep records alive that nobody uses.
 */
class LimitedResults {
  #oldest: OwnedBuffers | null = null;
  #newest: OwnedBuffers | null = null;
  #bytes = 0;

  add(owned: OwnedBuffers, bytes: number): void {
    owned.resultBytes = bytes;
    owned.older = this.#newest;
    if (this.#newest === null) this.#oldest = owned;
    else this.#newest.newer = owned;
    this.#newest = owned;
    this.#bytes += bytes;
    while (this.#bytes > RESULT_BYTES && this.#oldest !== null && this.#oldest !== owned) {
      this.#moveToHost(this.#oldest);
    }
  }

  delete(owned: OwnedBuffers): void {
    if (owned.resultBytes < 0) return;
    this.#bytes -= owned.resultBytes;
    if (owned.older === null) this.#oldest = owned.newer;
    else owned.older.newer = owned.newer;
    if (owned.newer === null) this.#newest = owned.older;
    else owned.newer.older = owned.older;
    owned.older = null;
    owned.newer = null;
    owned.resultBytes = -1;
  }

  #moveToHost(owned: OwnedBuffers): void {
    const bytes = owned.resultBytes;
    this.delete(owned);
    const { device, current } = owned;
    // One with two versions is no longer a mere result.
    if (current === null || owned.previous !== null) return;
    const copy = new Uint8Array(bytes);
    copy.set(device.view(current).subarray(0, bytes));
    owned.moved = copy;
    device.free(current);
    owned.current = null;
    // Otherwise the finalizer's record would hold the copy until the code is asynchronous again.
    finalizers.unregister(owned);
  }
}

const limitedResults = new WeakMap<Device, LimitedResults>();

/** Below this a finalizer's ballast would cost more than it tells the collector. */
const BALLAST_BYTES = 65536;

/** Most bytes of ballast that waits for the next storage of its size. */
const SPARE_BALLAST = 128 * 1024 * 1024;

/**
 * Ballast that a storage no longer needs, by size: V8 collects garbage after so many bytes of new arrays,
 * which for results that are freed by hand would be after every third one of 16 MB.
 */
class SpareBallast {
  readonly #bySize = new Map<number, ArrayBuffer[]>();
  #bytes = 0;

  take(bytes: number): ArrayBuffer {
    const spare = this.#bySize.get(bytes)?.pop();
    if (spare === undefined) return new ArrayBuffer(bytes);
    this.#bytes -= bytes;
    return spare;
  }

  give(ballast: ArrayBuffer | null): void {
    if (ballast === null) return;
    const bytes = ballast.byteLength;
    // Sizes that nobody asks for any more must not keep out those that are in use.
    if (this.#bytes + bytes > SPARE_BALLAST) this.#clear();
    if (bytes > SPARE_BALLAST) return;
    const sameSize = this.#bySize.get(bytes);
    if (sameSize === undefined) this.#bySize.set(bytes, [ballast]);
    else sameSize.push(ballast);
    this.#bytes += bytes;
  }

  #clear(): void {
    this.#bySize.clear();
    this.#bytes = 0;
  }
}

const spareBallast = new SpareBallast();

let nextStorageId = 1;

export class Storage {
  readonly storageId: number;
  readonly bytes: number;
  /** Counts overwrites. A leaf of version v reads this storage only while v is still held. */
  version = 0;
  /** Bytes of the version before, if they were on the host. */
  previousHost: Uint8Array | null = null;
  /** For messages: a parameter's name, or what made the value. */
  label = '';
  /** Uploaded at first use and kept on the device: parameters, buffers, optimizer state. */
  persistent = false;
  /** Gradients may be asked for: a parameter. Replacing one ends a step. */
  tracked = false;
  disposed = false;
  /** A leaf was made on it: others than the node that computed it may read it. */
  aliased = false;
  /** The tensor that had this value was given another one, in memory of its own. */
  superseded = false;
  /** How often the host bytes were copied to a device for one run. */
  uploads = 0;
  /** Bookkeeping of the plan being built: this storage's index among its leaves. */
  leafMark = 0;
  leafIndex = -1;
  #host: Uint8Array | null;
  #buffers: OwnedBuffers | null = null;
  /** An untouched array of the same size: V8 sees it, and collects in time. Costs no pages. */
  #ballast: ArrayBuffer | null = null;

  constructor(bytes: number, host: Uint8Array | null) {
    this.storageId = nextStorageId++;
    this.bytes = bytes;
    this.#host = host;
  }

  /** Takes over what was moved to the host. */
  #notice(): void {
    const moved = this.#buffers?.moved ?? null;
    if (moved === null) return;
    this.#host = moved;
    this.#buffers = null;
    this.#dropBallast();
  }

  get #owned(): OwnedBuffers | null {
    this.#notice();
    return this.#buffers;
  }

  /** The current version's bytes, if they are on the host. */
  get host(): Uint8Array | null {
    this.#notice();
    return this.#host;
  }

  set host(bytes: Uint8Array | null) {
    this.#host = bytes;
  }

  get device(): Device | null {
    return this.#owned?.device ?? null;
  }

  get buffer(): DeviceBuffer | null {
    return this.#owned?.current ?? null;
  }

  get previousBuffer(): DeviceBuffer | null {
    return this.#owned?.previous ?? null;
  }

  /** Ballast that nobody drops goes with the storage; nobody reads it. */
  get ballastBytes(): number {
    return this.#ballast?.byteLength ?? 0;
  }

  #dropBallast(): void {
    spareBallast.give(this.#ballast);
    this.#ballast = null;
  }

  #own(device: Device): OwnedBuffers {
    const known = this.#owned;
    if (known !== null && known.device === device) return known;
    // One record frees all its buffers on one device.
    this.leaveDevice();
    const owned = new OwnedBuffers(device);
    this.#buffers = owned;
    if (!device.collected) {
      finalizers.register(this, owned, owned);
      if (this.bytes >= BALLAST_BYTES) this.#ballast = spareBallast.take(this.bytes);
    }
    return owned;
  }

  /** Brings what is on a device back to the host: another device is to compute with it. */
  leaveDevice(): void {
    const owned = this.#owned;
    if (owned === null) return;
    const { device, current, previous } = owned;
    const copyOf = (buffer: DeviceBuffer): Uint8Array => device.view(buffer).slice(0, this.bytes);
    if (current !== null) this.#host = copyOf(current);
    if (previous !== null) this.previousHost = copyOf(previous);
    finalizers.unregister(owned);
    owned.release();
    this.#buffers = null;
    this.#dropBallast();
  }

  /** `adopt` for a result of which there may be many: old ones give way (see RESULT_BYTES). */
  adoptResult(device: Device, buffer: DeviceBuffer): void {
    this.adopt(device, buffer);
    if (device.collected || !device.synchronous) return;
    let results = limitedResults.get(device);
    if (results === undefined) limitedResults.set(device, (results = new LimitedResults()));
    const owned = this.#own(device);
    results.delete(owned);
    results.add(owned, this.bytes);
  }

  /** Takes over `buffer` as the value of the current version; the host copy is dropped. */
  adopt(device: Device, buffer: DeviceBuffer): void {
    this.#own(device).current = buffer;
    this.host = null;
  }

  /** Moves the value to the device, for good. */
  upload(device: Device): void {
    if (this.device !== device) this.leaveDevice();
    if (this.host === null || this.bytes === 0) return;
    const buffer = device.allocate(this.bytes);
    device.write(buffer, 0, this.host);
    this.adopt(device, buffer);
  }

  /**
   * The value became `buffer`, and the one before stays readable for one more version. Returns
   * the buffer that no version needs any longer.
   */
  advance(device: Device, buffer: DeviceBuffer): DeviceBuffer | null {
    const owned = this.#own(device);
    const unused = owned.previous;
    owned.previous = owned.current;
    this.previousHost = this.host;
    owned.current = buffer;
    this.host = null;
    this.version++;
    return unused === buffer ? null : unused;
  }

  /** The value was overwritten where it stands: earlier versions are gone. */
  overwritten(): void {
    const owned = this.#owned;
    if (owned !== null && owned.previous !== null) {
      owned.device.free(owned.previous);
      owned.previous = null;
    }
    this.previousHost = null;
    this.host = null;
    this.version++;
  }

  /** The value was replaced from the host. */
  replaceHost(bytes: Uint8Array): void {
    const owned = this.#owned;
    if (owned !== null) {
      if (owned.previous !== null) owned.device.free(owned.previous);
      owned.previous = owned.current;
      owned.current = null;
    }
    this.previousHost = this.host;
    this.host = bytes;
    this.version++;
  }

  /** Whether version `version` can still be read. */
  holds(version: number): boolean {
    if (this.disposed) return false;
    if (version === this.version) return true;
    return (
      version === this.version - 1 && (this.previousBuffer !== null || this.previousHost !== null)
    );
  }

  /** Throws unless version `version` can still be read. */
  check(version: number): void {
    if (this.holds(version)) return;
    if (this.disposed) {
      throw new DisposedError(`a value${this.label && ` (${this.label})`} was disposed of`);
    }
    const behind = this.version - version;
    throw new DisposedError(
      `this expression was built from ${this.label || 'a tensor'} as it was ${behind} update${behind === 1 ? '' : 's'} ago, which is no longer held`,
      {
        hint: 'read the value before the next step(), or call keep(x) on it when it is made',
      },
    );
  }

  /** Frees device memory now. */
  dispose(): void {
    this.disposed = true;
    this.host = null;
    this.previousHost = null;
    this.#dropBallast();
    if (this.#buffers !== null) {
      finalizers.unregister(this.#buffers);
      this.#buffers.release();
      this.#buffers = null;
    }
  }
}
