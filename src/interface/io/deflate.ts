// Raw deflate streams by the platform's own compressor, with a bound on what they may expand to.
import { FormatError } from '../../base/errors.ts';

const PIECE = 1 << 16;

/** Deflate makes at most this many bytes of one. */
export const MAX_EXPANSION = 1032;

/** Feeds a stream piece by piece, at its own pace. */
function pieces(bytes: Uint8Array): ReadableStream<BufferSource> {
  let position = 0;
  return new ReadableStream<BufferSource>({
    pull: (controller) => {
      if (position >= bytes.byteLength) {
        controller.close();
        return;
      }
      controller.enqueue(bytes.slice(position, position + PIECE));
      position += PIECE;
    },
  });
}

/**
 * Expands a raw deflate stream to exactly `size` bytes, or only its first `wanted`. `what` goes into
 * messages.
 *
 * @throws FormatError if it is damaged, or holds more or less.
 */
export async function inflate(
  bytes: Uint8Array,
  size: number,
  what: string,
  wanted: number = size,
): Promise<Uint8Array> {
  if (size > bytes.byteLength * MAX_EXPANSION) {
    throw new FormatError(`${what} cannot expand from ${bytes.byteLength} to ${size} bytes`);
  }
  // Not `size` at once: it is only what the file says.
  let result = new Uint8Array(Math.min(size, 4 * bytes.byteLength));
  let length = 0;
  const reader = pieces(bytes).pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (length + value.byteLength > size) {
        throw new FormatError(`${what} expands to more than its ${size} bytes`);
      }
      if (length + value.byteLength > result.byteLength) {
        const grown = new Uint8Array(Math.min(size, 2 * (length + value.byteLength)));
        grown.set(result.subarray(0, length));
        result = grown;
      }
      result.set(value, length);
      length += value.byteLength;
      if (wanted < size && length >= wanted) {
        await reader.cancel();
        return result.subarray(0, wanted);
      }
    }
  } catch (cause) {
    // Cancelling stops the decompressor too; that it was broken is what is being reported.
    await reader.cancel().catch(() => undefined);
    if (cause instanceof FormatError) throw cause;
    throw new FormatError(`${what} is not a deflate stream`, { cause });
  }
  if (length < size) throw new FormatError(`${what} expands to ${length} of its ${size} bytes`);
  return result;
}

/** A raw deflate stream of `bytes`. */
export async function deflate(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = pieces(bytes).pipeThrough(new CompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
