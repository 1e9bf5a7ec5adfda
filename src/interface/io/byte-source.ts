// Where bytes come from: memory, a Blob, a file or an address, read by ranges where that is possible.
import { describeValue } from '../../base/checks.ts';
import { ArgumentError, DisposedError, FormatError } from '../../base/errors.ts';
import { asFileError } from '../../base/file-errors.ts';

/** Something of known size that can be read from any place. */
export interface ByteSource {
  /** How messages call it: a path, an address, or "bytes in memory". */
  readonly label: string;
  /** Bytes in all. */
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset`; throws FormatError if they are not there. Bytes in a buffer
   * of their own belong to the caller.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Fills `target` with what stands from `offset`: for sources that have to read it from somewhere. */
  readInto?(offset: number, target: Uint8Array): Promise<void>;
  /** Releases the file behind it; reading afterwards throws DisposedError. */
  close(): Promise<void>;
}

/**
 * What readers accept: a path (or file: address) in Node, an http(s) address anywhere, bytes, a
 * Blob or File, or a source of your own.
 */
export type ByteInput = string | URL | Uint8Array | ArrayBuffer | Blob | ByteSource;

/** One call of the system reads at most this much: larger counts fail on some platforms. */
const CHUNK = 1 << 28;

function checkRange(label: string, size: number, offset: number, length: number): void {
  if (offset < 0 || length < 0 || offset + length > size) {
    throw new FormatError(`${label} ends at byte ${size}, ${length} bytes wanted`, { offset });
  }
}

/** Reads from memory; the views it gives share the memory. */
export function memorySource(bytes: Uint8Array | ArrayBuffer, label = 'the bytes'): ByteSource {
  const view = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
  let closed = false;
  return {
    label,
    size: view.byteLength,
    read: async (offset, length) => {
      if (closed) throw closedError(label);
      checkRange(label, view.byteLength, offset, length);
      return view.subarray(offset, offset + length);
    },
    close: async () => {
      closed = true;
    },
  };
}

function blobSource(blob: Blob): ByteSource {
  const label = 'name' in blob && typeof blob.name === 'string' ? blob.name : 'the blob';
  let closed = false;
  return {
    label,
    size: blob.size,
    read: async (offset, length) => {
      if (closed) throw closedError(label);
      checkRange(label, blob.size, offset, length);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
    close: async () => {
      closed = true;
    },
  };
}

async function fileSource(path: string | URL): Promise<ByteSource> {
  const { open } = await import('node:fs/promises');
  const label = String(path);
  const handle = await open(path, 'r').catch((error: unknown) => {
    throw asFileError(error, 'load', `open '${label}'`);
  });
  let closed = false;
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new ArgumentError(`${label} is not a file`, { op: 'load' });
    const check = (offset: number, length: number): void => {
      if (closed) throw closedError(label);
      checkRange(label, stats.size, offset, length);
    };
    const readInto = async (offset: number, target: Uint8Array): Promise<void> => {
      const { length } = target;
      check(offset, length);
      let done = 0;
      while (done < length) {
        const want = Math.min(CHUNK, length - done);
        const { bytesRead } = await handle.read(target, done, want, offset + done);
        // The file was cut short after it was opened.
        if (bytesRead === 0) checkRange(label, offset + done, offset + done, want);
        done += bytesRead;
      }
    };
    return {
      label,
      size: stats.size,
      readInto,
      read: async (offset, length) => {
        // Before memory is taken for it.
        check(offset, length);
        const bytes = new Uint8Array(length);
        await readInto(offset, bytes);
        return bytes;
      },
      close: async () => {
        if (closed) return;
        closed = true;
        await handle.close();
      },
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function closedError(label: string): DisposedError {
  return new DisposedError(`${label} was closed and cannot be read any more`, {
    hint: 'open it again',
  });
}

async function addressSource(address: string): Promise<ByteSource> {
  const response = await fetch(address).catch((error: unknown) => {
    throw asFileError(error, 'load', `fetch ${address}`);
  });
  if (!response.ok) {
    throw new ArgumentError(`${address} answered ${response.status} ${response.statusText}`, {
      op: 'load',
    });
  }
  return memorySource(await response.arrayBuffer(), address);
}

function isByteSource(input: unknown): input is ByteSource {
  if (typeof input !== 'object' || input === null) return false;
  return 'read' in input && typeof input.read === 'function' && 'size' in input;
}

/** True where files can be opened by path. */
export function hasFiles(): boolean {
  return typeof process === 'object' && process.versions?.node !== undefined;
}

/** Opens any {@link ByteInput}. The caller closes the source. */
export async function openSource(input: ByteInput): Promise<ByteSource> {
  if (typeof input === 'string' || input instanceof URL) {
    if (/^https?:/.test(String(input))) return addressSource(String(input));
    if (hasFiles()) {
      const isFileAddress = typeof input === 'string' && input.startsWith('file:');
      return fileSource(isFileAddress ? new URL(input) : input);
    }
    // A page has no file system: what looks like a path is an address relative to the page.
    return addressSource(String(input));
  }
  if (input instanceof Uint8Array || input instanceof ArrayBuffer) return memorySource(input);
  if (typeof Blob !== 'undefined' && input instanceof Blob) return blobSource(input);
  if (isByteSource(input)) return input;
  throw new ArgumentError(
    `expected a path, an address, bytes, a Blob or a ByteSource, got ${describeValue(input)}`,
    { op: 'load' },
  );
}

/** Everything a source holds. */
export async function readAllBytes(input: ByteInput): Promise<Uint8Array> {
  const source = await openSource(input);
  try {
    return await source.read(0, source.size);
  } finally {
    await source.close();
  }
}
