// Pictures as inputs, decoded by the package sharp where it is installed.
import { FormatError, TengenError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { PortRecord } from '../lite/header.ts';
import { describePort } from '../lite/values.ts';
import { CallError } from './call.ts';

/** What is used of sharp. */
interface Picture {
  rotate(): Picture;
  resize(width: number, height: number, options: { readonly fit: string }): Picture;
  removeAlpha(): Picture;
  toColourspace(space: string): Picture;
  raw(): Picture;
  toBuffer(options: { readonly resolveWithObject: true }): Promise<{
    readonly data: Uint8Array;
    readonly info: { readonly channels: number };
  }>;
}

async function openSharp(): Promise<(path: string) => Picture> {
  // By a variable: it is no dependency, and bundlers leave it alone.
  const name = 'sharp';
  const at = async (place: string) =>
    ((await import(place)) as { readonly default: (path: string) => Picture }).default;
  try {
    return await at(name).catch(async () => {
      // Beside the command it is not: of the folder that the call is made in.
      const [{ createRequire }, { join }, { pathToFileURL }] = await Promise.all([
        import('node:module'),
        import('node:path'),
        import('node:url'),
      ]);
      const require = createRequire(join(process.cwd(), 'package.json'));
      return at(pathToFileURL(require.resolve(name)).href);
    });
  } catch (cause) {
    throw new TengenError('pictures are decoded by sharp, which is not installed', {
      hint: 'npm install sharp, or give a .npy file',
      cause,
    });
  }
}

/** Where width, height and channels are in a shape. */
export function pictureLayout(port: PortRecord, shape: readonly number[]) {
  const [channels, height, width] = shape.slice(-3);
  const before = sizeOf(shape.slice(0, -3));
  const isColour = (size: number | undefined): boolean => size === 1 || size === 3;
  if (shape.length >= 3 && before === 1) {
    if (isColour(channels)) return { channels, height, width, first: true };
    if (isColour(width)) return { channels: width, height: channels, width: height, first: false };
  }
  throw new CallError(
    `input ${describePort(port)} is no picture: [1,C,H,W] or [1,H,W,C] with 1 or 3 channels`,
  );
}

/** The picture in the size of the input; floats are from 0 to 1, whole numbers to 255. */
export async function readImage(path: string, port: PortRecord, shape: readonly number[]) {
  const { channels, height, width, first } = pictureLayout(port, shape);
  const sharp = await openSharp();
  const { data, info } = await sharp(path)
    // As cameras say that they were held.
    .rotate()
    .resize(width as number, height as number, { fit: 'cover' })
    .removeAlpha()
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .raw()
    .toBuffer({ resolveWithObject: true })
    .catch((cause: unknown) => {
      const [why] = String(cause instanceof Error ? cause.message : cause).split('\n');
      throw new FormatError(`'${path}' is no picture that can be decoded: ${why}`, { cause });
    });
  const pixels = (width as number) * (height as number);
  const scale = port.dtype.includes('float') ? 1 / 255 : 1;
  const values = new Float32Array(pixels * (channels as number));
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let c = 0; c < (channels as number); c++) {
      const value = (data[pixel * info.channels + Math.min(c, info.channels - 1)] ?? 0) * scale;
      values[first ? c * pixels + pixel : pixel * (channels as number) + c] = value;
    }
  }
  return { data: values, shape };
}
