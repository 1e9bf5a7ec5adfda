// Image transforms against values computed by hand, and their invariants.
import { describe, expect, it } from 'vitest';
import { ArgumentError, DTypeError, ShapeError } from '../../src/base/errors.ts';
import { Random } from '../../src/interface/data/random.ts';
import {
  type ImageArray,
  centerCrop,
  compose,
  normalize,
  pad,
  randomAffine,
  randomCrop,
  randomHorizontalFlip,
  randomRotation,
  resize,
  toFloat,
} from '../../src/interface/data/transforms.ts';

const random = (): Random => new Random(1);
/** `[1, 3, 4]` with values 1 to 12. */
const image: ImageArray = {
  data: Uint8Array.from({ length: 12 }, (_, i) => i + 1),
  shape: [1, 3, 4],
};
const values = ({ data }: ImageArray): number[] => [...data];

describe('pointwise', () => {
  it('toFloat divides by 255 and leaves floats alone', () => {
    const bytes = { data: Uint8Array.of(0, 51, 255), shape: [1, 1, 3] };
    const floats = toFloat()(bytes, random());
    expect(floats.data).toEqual(Float32Array.of(0, 0.2, 1));
    expect(toFloat()(floats, random()).data).toEqual(floats.data);
  });

  it('normalize works per channel', () => {
    const floats = { data: Float32Array.of(1, 2, 3, 4), shape: [2, 1, 2] };
    expect(values(normalize([1, 2], [0.5, 2])(floats, random()))).toEqual([0, 2, 0.5, 1]);
    expect(values(normalize(1, 0.5)(floats, random()))).toEqual([0, 2, 4, 6]);
    expect(() => normalize(0, 1)(image, random())).toThrow(DTypeError);
    expect(() => normalize([0, 0, 0], 1)(floats, random())).toThrow('3 values for 2 channel(s)');
    expect(() => normalize(0, 0)).toThrow(ArgumentError);
  });

  it('compositions know whether they are pointwise', () => {
    expect(compose(toFloat(), normalize(0, 1)).pointwise).toBe(true);
    expect(compose(toFloat(), pad(1)).pointwise).toBe(false);
  });
});

describe('crops and padding', () => {
  it('pad on every side, or each by its own', () => {
    const padded = pad([1, 0, 0, 2], 9)(image, random());
    expect(padded.shape).toEqual([1, 4, 6]);
    expect(values(padded)).toEqual([
      9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3, 4, 9, 9, 5, 6, 7, 8, 9, 9, 9, 10, 11, 12,
    ]);
    expect(pad(2)(image, random()).shape).toEqual([1, 7, 8]);
    expect(() => pad(-1)).toThrow(ArgumentError);
  });

  it('centerCrop cuts, or pads where the image is smaller', () => {
    expect(values(centerCrop([1, 2])(image, random()))).toEqual([6, 7]);
    expect(values(centerCrop([3, 6])(image, random())).slice(0, 6)).toEqual([0, 1, 2, 3, 4, 0]);
  });

  it('randomCrop reaches every window and no other', () => {
    const seen = new Set<string>();
    const generator = new Random(5);
    for (let draw = 0; draw < 500; draw++) {
      seen.add(values(randomCrop([2, 3])(image, generator)).join());
    }
    expect(seen.size).toBe(4);
    expect(seen).toContain('1,2,3,5,6,7');
    expect(seen).toContain('6,7,8,10,11,12');
    const padded = new Set<string>();
    for (let draw = 0; draw < 2000; draw++) {
      padded.add(values(randomCrop([3, 4], { padding: 1 })(image, generator)).join());
    }
    expect(padded.size).toBe(9);
    expect(() => randomCrop(4)(image, random())).toThrow(ShapeError);
    expect(() => randomCrop(0)).toThrow(ArgumentError);
  });
});

describe('flips and warps', () => {
  it('randomHorizontalFlip mirrors rows, with its probability', () => {
    expect(values(randomHorizontalFlip(1)(image, random()))).toEqual([
      4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9,
    ]);
    expect(randomHorizontalFlip(0)(image, random())).toBe(image);
    const generator = new Random(1);
    let flipped = 0;
    for (let draw = 0; draw < 2000; draw++) {
      if (randomHorizontalFlip(0.3)(image, generator) !== image) flipped++;
    }
    expect(Math.abs(flipped - 600)).toBeLessThan(80);
    expect(image.data[0]).toBe(1);
  });

  it('randomAffine without change is the identity; quarter turns are exact', () => {
    expect(values(randomAffine({})(image, random()))).toEqual(values(image));
    const square = { data: Float32Array.from({ length: 9 }, (_, i) => i), shape: [1, 3, 3] };
    const turned = randomRotation([90, 90])(square, random());
    turned.data.forEach((value, place) => {
      expect(value).toBeCloseTo([6, 3, 0, 7, 4, 1, 8, 5, 2][place] as number, 5);
    });
    const half = randomRotation([180, 180])(square, random());
    half.data.forEach((value, place) => expect(value).toBeCloseTo(8 - place, 5));
  });

  it('randomAffine shifts by at most what it may, and fills', () => {
    const dot = {
      data: Float32Array.from({ length: 81 }, (_, i) => (i === 40 ? 1 : 0)),
      shape: [1, 9, 9],
    };
    const generator = new Random(3);
    for (let draw = 0; draw < 50; draw++) {
      const { data } = randomAffine({ translate: [2 / 9, 0] })(dot, generator);
      let mass = 0;
      let y = 0;
      data.forEach((value, place) => {
        mass += value;
        y += value * Math.floor(place / 9);
        expect(place % 9 === 4 || value === 0).toBe(true);
      });
      expect(mass).toBeCloseTo(1, 5);
      expect(Math.abs(y / mass - 4)).toBeLessThan(2.0001);
    }
    const far = randomAffine({ scale: [0.01, 0.01], fill: 7 })(dot, generator);
    expect(far.data[0]).toBe(7);
    expect(() => randomAffine({ scale: [0, 1] })).toThrow(ArgumentError);
  });

  it('shear leans the image', () => {
    const column = {
      data: new Float32Array(25).map((_, i) => (i % 5 === 2 ? 1 : 0)),
      shape: [1, 5, 5],
    };
    const sheared = randomAffine({ shear: [45, 45] })(column, random());
    const at = (y: number): number => sheared.data.subarray(5 * y, 5 * y + 5).indexOf(1);
    expect([at(1), at(2), at(3)]).toEqual([1, 2, 3]);
  });

  it('resize agrees with PyTorch (align_corners=False)', () => {
    const small = { data: Float32Array.of(1, 2, 3, 4), shape: [1, 2, 2] };
    expect(values(resize(4)(small, random()))).toEqual([
      1, 1.25, 1.75, 2, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3, 3.25, 3.75, 4,
    ]);
    const large = { data: Float32Array.from({ length: 32 }, (_, i) => i), shape: [2, 4, 4] };
    expect(values(resize(2)(large, random()))).toEqual([
      2.5, 4.5, 10.5, 12.5, 18.5, 20.5, 26.5, 28.5,
    ]);
    // Bytes are rounded, not cut off.
    const bytes = { data: Uint8Array.of(0, 255), shape: [1, 1, 2] };
    expect(values(resize([1, 4])(bytes, random()))).toEqual([0, 64, 191, 255]);
  });

  it('refuse what is not an image', () => {
    const flat = { data: new Uint8Array(4), shape: [4] };
    for (const transform of [resize(2), pad(1), centerCrop(2), randomAffine({}), randomCrop(1)]) {
      expect(() => transform(flat, random())).toThrow(ShapeError);
    }
  });
});
