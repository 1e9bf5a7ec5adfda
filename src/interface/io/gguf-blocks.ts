// The blocks that GGUF files pack weights in: a scale for 32 or 256 small integers. The layouts are those
// of ggml; arithmetic is rounded to float32 where ggml rounds.
import { fromFloat16Bits } from '../../base/dtype.ts';

/** Expands one block, which begins at `at` of `bytes`, to `out` from `to`. */
type Expand = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

export interface BlockFormat {
  /** Weights in a block. */
  readonly count: number;
  /** Bytes of a block. */
  readonly bytes: number;
  readonly expand: Expand;
}

const f = Math.fround;

function byte(bytes: Uint8Array, at: number): number {
  return bytes[at] as number;
}

function half(bytes: Uint8Array, at: number): number {
  return fromFloat16Bits(byte(bytes, at) | (byte(bytes, at + 1) << 8));
}

function signed(bytes: Uint8Array, at: number): number {
  return (byte(bytes, at) << 24) >> 24;
}

/**
 * 16 bytes of two 4-bit numbers: low halves are weights 0 to 15, high halves 16 to 31. With `hasFifth`,
 * 4 bytes before them hold a fifth bit of each. Without a minimum, zero is in the middle.
 */
function pairs(hasMinimum: boolean, hasFifth: boolean): Expand {
  const middle = hasMinimum ? 0 : hasFifth ? 16 : 8;
  const headBytes = hasMinimum ? 4 : 2;
  return (bytes, at, out, to) => {
    const scale = half(bytes, at);
    const minimum = hasMinimum ? half(bytes, at + 2) : 0;
    const fifth = at + headBytes;
    const start = fifth + (hasFifth ? 4 : 0);
    for (let j = 0; j < 32; j++) {
      const four = (byte(bytes, start + (j & 15)) >> (j < 16 ? 0 : 4)) & 15;
      const high = hasFifth ? ((byte(bytes, fifth + (j >> 3)) >> (j & 7)) & 1) << 4 : 0;
      const product = f(((four | high) - middle) * scale);
      // Adding 0 would make -0 another number.
      out[to + j] = hasMinimum ? product + minimum : product;
    }
  };
}

function expandQ8(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const scale = half(bytes, at);
  for (let j = 0; j < 32; j++) out[to + j] = signed(bytes, at + 2 + j) * scale;
}

/** 16 groups of 16 two-bit weights, each with a scale and a minimum of 4 bits. */
function expandQ2K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const scale = half(bytes, at + 80);
  const minimum = half(bytes, at + 82);
  for (let group = 0; group < 16; group++) {
    const packed = byte(bytes, at + group);
    const factor = f(scale * (packed & 15));
    const offset = f(minimum * (packed >> 4));
    const shift = 2 * ((group >> 1) & 3);
    const start = at + 16 + 32 * (group >> 3) + 16 * (group & 1);
    for (let l = 0; l < 16; l++) {
      out[to + 16 * group + l] = f(factor * ((byte(bytes, start + l) >> shift) & 3)) - offset;
    }
  }
}

/** As {@link expandQ2K} with a third bit per weight and scales of 6 bits, without minimum. */
function expandQ3K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const scale = half(bytes, at + 108);
  const scales = at + 96;
  for (let group = 0; group < 16; group++) {
    const low = byte(bytes, scales + (group & 7)) >> (4 * (group >> 3));
    const high = byte(bytes, scales + 8 + (group & 3)) >> (2 * (group >> 2));
    const factor = f(scale * (((low & 15) | ((high & 3) << 4)) - 32));
    const shift = 2 * ((group >> 1) & 3);
    const bit = group >> 1;
    const start = at + 32 + 32 * (group >> 3) + 16 * (group & 1);
    const mask = at + 16 * (group & 1);
    for (let l = 0; l < 16; l++) {
      const third = (byte(bytes, mask + l) >> bit) & 1;
      out[to + 16 * group + l] =
        factor * (((byte(bytes, start + l) >> shift) & 3) - (third === 1 ? 0 : 4));
    }
  }
}

/** Scale and minimum, 6 bits each, of group `j` of 8 in 12 bytes. */
function scaleAndMinimum(bytes: Uint8Array, at: number, j: number): [number, number] {
  if (j < 4) return [byte(bytes, at + j) & 63, byte(bytes, at + j + 4) & 63];
  const low = byte(bytes, at + j + 4);
  return [
    (low & 15) | ((byte(bytes, at + j - 4) >> 6) << 4),
    (low >> 4) | ((byte(bytes, at + j) >> 6) << 4),
  ];
}

/** 8 groups of 32 weights of four bits; with `hasFifth`, 32 bytes before them hold a fifth bit each. */
function groupsOf32(hasFifth: boolean): Expand {
  return (bytes, at, out, to) => {
    const scale = half(bytes, at);
    const minimum = half(bytes, at + 2);
    const fifth = at + 16;
    const weights = hasFifth ? at + 48 : at + 16;
    for (let group = 0; group < 8; group++) {
      const [a, b] = scaleAndMinimum(bytes, at + 4, group);
      const factor = f(scale * a);
      const offset = f(minimum * b);
      const shift = 4 * (group & 1);
      const start = weights + 32 * (group >> 1);
      for (let l = 0; l < 32; l++) {
        const high = hasFifth ? ((byte(bytes, fifth + l) >> group) & 1) << 4 : 0;
        const q = ((byte(bytes, start + l) >> shift) & 15) | high;
        out[to + 32 * group + l] = f(factor * q) - offset;
      }
    }
  };
}

/** 16 groups of 16 weights of six bits, each with a scale of 8. */
function expandQ6K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const scale = half(bytes, at + 208);
  for (let group = 0; group < 16; group++) {
    const factor = f(scale * signed(bytes, at + 192 + group));
    const part = (group >> 1) & 3; // which 32 of the 128 weights that share bytes
    const within = 16 * (group & 1);
    const low = at + 64 * (group >> 3) + 32 * (part & 1) + within;
    const high = at + 128 + 32 * (group >> 3) + within;
    for (let l = 0; l < 16; l++) {
      const four = (byte(bytes, low + l) >> (4 * (part >> 1))) & 15;
      const two = (byte(bytes, high + l) >> (2 * part)) & 3;
      out[to + 16 * group + l] = factor * ((four | (two << 4)) - 32);
    }
  }
}

function expandQ8K(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const scale = new DataView(bytes.buffer, bytes.byteOffset + at, 4).getFloat32(0, true);
  for (let j = 0; j < 256; j++) out[to + j] = scale * signed(bytes, at + 4 + j);
}

/** Formats by name. */
export const BLOCK_FORMATS = {
  Q4_0: { count: 32, bytes: 18, expand: pairs(false, false) },
  Q4_1: { count: 32, bytes: 20, expand: pairs(true, false) },
  Q5_0: { count: 32, bytes: 22, expand: pairs(false, true) },
  Q5_1: { count: 32, bytes: 24, expand: pairs(true, true) },
  Q8_0: { count: 32, bytes: 34, expand: expandQ8 },
  Q2_K: { count: 256, bytes: 84, expand: expandQ2K },
  Q3_K: { count: 256, bytes: 110, expand: expandQ3K },
  Q4_K: { count: 256, bytes: 144, expand: groupsOf32(false) },
  Q5_K: { count: 256, bytes: 176, expand: groupsOf32(true) },
  Q6_K: { count: 256, bytes: 210, expand: expandQ6K },
  Q8_K: { count: 256, bytes: 292, expand: expandQ8K },
} satisfies Record<string, BlockFormat>;

export type BlockFormatName = keyof typeof BLOCK_FORMATS;

/** The weights of whole blocks. */
export function expandBlocks(format: BlockFormat, bytes: Uint8Array): Float32Array {
  const blocks = bytes.byteLength / format.bytes;
  const out = new Float32Array(blocks * format.count);
  for (let block = 0; block < blocks; block++) {
    format.expand(bytes, block * format.bytes, out, block * format.count);
  }
  return out;
}
