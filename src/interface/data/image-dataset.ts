// Labelled images in memory: bytes, with transforms applied as they are read, whole batches at once.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import type { HostArray, TypedHostArray } from '../io/host-array.ts';
import {
  type BatchContext,
  Dataset,
  type SampleContext,
  checkIndex,
  gatherRows,
  plainContext,
} from './dataset.ts';
import { Random } from './random.ts';
import type { ImageArray, Transform } from './transforms.ts';

/** What an {@link ImageDataset} is made of. */
export interface ImageDatasetInit {
  /** The bytes of all images, one after the other. */
  readonly images: Uint8Array;
  /** `[channels, height, width]` of one image. */
  readonly imageShape: readonly [number, number, number];
  /** The class of each image. */
  readonly labels: ArrayLike<number>;
  /** Names of the classes. */
  readonly classes: readonly string[];
  /** Applied to every image when it is read. */
  readonly transform?: Transform | undefined;
}

/** One image, and the number of its class. */
export type LabelledImage = [image: HostArray, label: number];

/**
 * Labelled images in memory. A batch is `[images, labels]`: images `[batch, channels, height, width]`
 * of uint8, or of what the transform gives; labels int32.
 *
 * Transforms that treat each pixel by itself (`toFloat`, `normalize` and their compositions) are
 * turned into a table of 256 values per channel, and whole batches are looked up in it.
 */
export class ImageDataset extends Dataset<LabelledImage> {
  readonly length: number;
  readonly images: Uint8Array;
  readonly labels: Int32Array;
  readonly imageShape: readonly [number, number, number];
  readonly classes: readonly string[];
  private readonly transform: Transform | undefined;
  private readonly table: Float32Array | undefined;

  constructor(init: ImageDatasetInit) {
    super();
    this.images = init.images;
    this.imageShape = init.imageShape;
    this.labels = Int32Array.from(init.labels);
    this.classes = init.classes;
    this.length = this.labels.length;
    const size = sizeOf(init.imageShape);
    if (size * this.length !== this.images.length) {
      throw new ShapeError(
        `${this.images.length} bytes do not hold ${this.length} images of ${formatShape(init.imageShape)}`,
        { op: 'ImageDataset' },
      );
    }
    const wrong = this.labels.findIndex((label) => !(label >= 0 && label < this.classes.length));
    if (wrong >= 0) {
      throw new ArgumentError(
        `label ${this.labels[wrong]} of image ${wrong} names none of ${this.classes.length} classes`,
        { op: 'ImageDataset' },
      );
    }
    this.transform = init.transform;
    this.table = init.transform?.pointwise === true ? this.pixelTable(init.transform) : undefined;
  }

  /** The same images in the same memory, with another transform (or none). */
  withTransform(transform: Transform | undefined): ImageDataset {
    const { images, imageShape, labels, classes } = this;
    return new ImageDataset({ images, imageShape, labels, classes, transform });
  }

  /** What the transform makes of each byte in each channel, found by applying it to all of them. */
  private pixelTable(transform: Transform): Float32Array | undefined {
    const channels = this.imageShape[0];
    const data = Uint8Array.from({ length: 256 * channels }, (_, index) => index & 255);
    const result = transform({ data, shape: [channels, 16, 16] }, new Random(0)).data;
    return result instanceof Float32Array ? result : undefined;
  }

  private imageAt(index: number): ImageArray {
    const size = sizeOf(this.imageShape);
    return {
      data: this.images.subarray(index * size, (index + 1) * size),
      shape: this.imageShape,
    };
  }

  get(index: number, context: SampleContext = plainContext(index)): LabelledImage {
    checkIndex('ImageDataset', index, this.length);
    const image = this.imageAt(index);
    const label = this.labels[index] as number;
    return [this.transform === undefined ? image : this.transform(image, context.random), label];
  }

  override getBatch(
    indices: readonly number[],
    context: BatchContext = { epoch: 0, seed: 0 },
  ): [TypedHostArray, TypedHostArray] {
    for (const index of indices) checkIndex('ImageDataset', index, this.length);
    const labels = gatherRows({ data: this.labels, shape: [this.length], dtype: 'int32' }, indices);
    return [this.imageBatch(indices, context), labels];
  }

  private imageBatch(indices: readonly number[], context: BatchContext): TypedHostArray {
    const { images, imageShape, transform, table } = this;
    const shape = [indices.length, ...imageShape];
    if (table !== undefined) {
      return { data: this.lookUp(indices, table), shape, dtype: 'float32' };
    }
    if (transform === undefined) {
      const all: TypedHostArray = {
        data: images,
        shape: [this.length, ...imageShape],
        dtype: 'uint8',
      };
      return gatherRows(all, indices);
    }
    return stackImages(
      indices.map((index) =>
        transform(this.imageAt(index), new Random(context.seed, context.epoch, index)),
      ),
    );
  }

  private lookUp(indices: readonly number[], table: Float32Array): Float32Array {
    const [channels, height, width] = this.imageShape;
    const plane = height * width;
    const result = new Float32Array(indices.length * channels * plane);
    // Seen as integers, values move without a conversion to double and back.
    const target = new Int32Array(result.buffer);
    const values = new Int32Array(table.buffer, table.byteOffset, table.length);
    indices.forEach((index, place) => {
      for (let channel = 0; channel < channels; channel++) {
        const from = (index * channels + channel) * plane;
        const to = (place * channels + channel) * plane;
        const ofChannel = channels === 1 ? values : values.subarray(256 * channel);
        lookUpBytes(this.images, from, plane, ofChannel, target, to);
      }
    });
    return result;
  }
}

/** `target[to + i] = values[source[from + i]]`, four at a time: twice as fast as one at a time. */
function lookUpBytes(
  source: Uint8Array,
  from: number,
  length: number,
  values: Int32Array,
  target: Int32Array,
  to: number,
): void {
  const fours = length & ~3;
  let index = 0;
  for (; index < fours; index += 4) {
    target[to + index] = values[source[from + index] as number] as number;
    target[to + index + 1] = values[source[from + index + 1] as number] as number;
    target[to + index + 2] = values[source[from + index + 2] as number] as number;
    target[to + index + 3] = values[source[from + index + 3] as number] as number;
  }
  for (; index < length; index++) {
    target[to + index] = values[source[from + index] as number] as number;
  }
}

function stackImages(images: readonly ImageArray[]): TypedHostArray {
  const first = images[0];
  if (first === undefined) throw new ArgumentError('a batch needs at least one image');
  const size = first.data.length;
  const floats = first.data instanceof Float32Array;
  const data = floats
    ? new Float32Array(size * images.length)
    : new Uint8Array(size * images.length);
  images.forEach((image, place) => {
    if (formatShape(image.shape) !== formatShape(first.shape)) {
      throw new ShapeError(
        `the transform gave ${formatShape(image.shape)} and ${formatShape(first.shape)} in one batch`,
        { op: 'ImageDataset', hint: 'end with randomCrop, centerCrop or resize' },
      );
    }
    data.set(image.data, place * size);
  });
  return { data, shape: [images.length, ...first.shape], dtype: floats ? 'float32' : 'uint8' };
}
