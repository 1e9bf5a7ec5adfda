// datasets.mnist() and fashionMnist(): IDX files from any folder or mirror, as an image dataset.
import { checkKeys, describeValue } from '../../base/checks.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { hasFiles, readAllBytes } from '../io/byte-source.ts';
import { withFileName } from '../../base/file-errors.ts';
import type { TypedHostArray } from '../io/host-array.ts';
import { makeOutputFolder } from '../../base/output-files.ts';
import { type DownloadProgress, downloadFile } from './download.ts';
import { readIdx } from './idx.ts';
import { ImageDataset } from './image-dataset.ts';
import type { Transform } from './transforms.ts';

/** Options of {@link mnist} and {@link fashionMnist}. */
export interface MnistOptions {
  /** Folder with the IDX files, plain or gzipped. In a page: an http(s) address. */
  readonly root: string | URL;
  /** Fetch what is missing into `root`. Default false. */
  readonly download?: boolean;
  /** Default `train`. */
  readonly split?: 'train' | 'test';
  /** Addresses of folders to download from, in place of the public ones. */
  readonly mirror?: string | readonly string[];
  /** Rounds over the mirrors before giving up. Default 3. */
  readonly attempts?: number;
  /** Milliseconds before the second round; doubled for each further one. Default 1000. */
  readonly backoff?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DownloadProgress) => void;
  readonly transform?: Transform;
}

const OPTIONS = [
  'root',
  'download',
  'split',
  'mirror',
  'attempts',
  'backoff',
  'signal',
  'onProgress',
  'transform',
] as const satisfies readonly (keyof MnistOptions)[];

interface PublishedFile {
  readonly name: string;
  /** Of the gzipped file as published. */
  readonly md5: string;
  readonly bytes: number;
}

interface PublishedSet {
  readonly op: string;
  readonly mirrors: readonly string[];
  readonly classes: readonly string[];
  readonly files: Readonly<
    Record<'train' | 'test', readonly [images: PublishedFile, labels: PublishedFile]>
  >;
}

const MNIST: PublishedSet = {
  op: 'datasets.mnist',
  mirrors: [
    'https://ossci-datasets.s3.amazonaws.com/mnist/',
    'https://storage.googleapis.com/cvdf-datasets/mnist/',
    'http://yann.lecun.com/exdb/mnist/',
  ],
  classes: ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'],
  files: {
    train: [
      {
        name: 'train-images-idx3-ubyte',
        md5: 'f68b3c2dcbeaaa9fbdd348bbdeb94873',
        bytes: 9_912_422,
      },
      { name: 'train-labels-idx1-ubyte', md5: 'd53e105ee54ea40749a09fcbcd1e9432', bytes: 28_881 },
    ],
    test: [
      { name: 't10k-images-idx3-ubyte', md5: '9fb629c4189551a2d022fa330f9573f3', bytes: 1_648_877 },
      { name: 't10k-labels-idx1-ubyte', md5: 'ec29112dd5afa0611ce80d1b7f02629c', bytes: 4_542 },
    ],
  },
};

const FASHION_MNIST: PublishedSet = {
  op: 'datasets.fashionMnist',
  mirrors: ['http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/'],
  classes: [
    'T-shirt/top',
    'Trouser',
    'Pullover',
    'Dress',
    'Coat',
    'Sandal',
    'Shirt',
    'Sneaker',
    'Bag',
    'Ankle boot',
  ],
  files: {
    train: [
      {
        name: 'train-images-idx3-ubyte',
        md5: '8d4fb7e6c68d591d4c3dfef9ec88bf0d',
        bytes: 26_421_880,
      },
      { name: 'train-labels-idx1-ubyte', md5: '25c81989df183df01b3e8a0aad5dffbe', bytes: 29_515 },
    ],
    test: [
      { name: 't10k-images-idx3-ubyte', md5: 'bef4ecab320f06d8554ea6380940ec79', bytes: 4_422_102 },
      { name: 't10k-labels-idx1-ubyte', md5: 'bb300cfdad3c16e7a12a480ee83cd310', bytes: 5_148 },
    ],
  },
};

/** Other layouts in which people keep the files: a dot in the name, torchvision's folders. */
const FOLDERS = ['', 'raw/', 'MNIST/raw/', 'FashionMNIST/raw/'];

/**
 * The MNIST digits: images `[1, 28, 28]` of uint8, ten classes.
 *
 * Uses the IDX files in `root` as they are, plain or gzipped, also shorter or longer ones than the
 * published; with `download: true` what is missing is fetched, resumed if interrupted, and checked.
 *
 * @throws ArgumentError if files are missing and `download` is not set.
 * @throws FormatError if a file is damaged, or images and labels do not belong together.
 * @throws DownloadError if no mirror has the file.
 * @example no-run: downloads
 * import { datasets, transforms } from 'tengen/data';
 *
 * const { toFloat } = transforms;
 * const train = await datasets.mnist({ root: 'data', download: true, transform: toFloat() });
 * const test = await datasets.mnist({ root: 'data', split: 'test', download: true, transform: toFloat() });
 */
export function mnist(options: MnistOptions): Promise<ImageDataset> {
  return openSet(MNIST, options);
}

/** Fashion-MNIST, ten kinds of clothing in MNIST's format. Use a folder of its own. See {@link mnist}. */
export function fashionMnist(options: MnistOptions): Promise<ImageDataset> {
  return openSet(FASHION_MNIST, options);
}

async function openSet(set: PublishedSet, options: MnistOptions): Promise<ImageDataset> {
  checkKeys(set.op, options, OPTIONS);
  const { split = 'train', root } = options;
  if (typeof root !== 'string' && !(root instanceof URL)) {
    throw new ArgumentError(`root must be a folder, got ${describeValue(root)}`, { op: set.op });
  }
  if (split !== 'train' && split !== 'test') {
    throw new ArgumentError(`split must be 'train' or 'test', got ${String(split)}`, {
      op: set.op,
    });
  }
  options.signal?.throwIfAborted();
  const [imageFile, labelFile] = set.files[split];
  const images = await readFile(set, imageFile, options);
  const labels = await readFile(set, labelFile, options);
  return combine(set, options, images, labels);
}

interface NamedArray extends TypedHostArray {
  /** Path or address, for messages. */
  readonly label: string;
}

async function readFile(
  set: PublishedSet,
  file: PublishedFile,
  options: MnistOptions,
): Promise<NamedArray> {
  const label = await locate(set, file, options);
  try {
    return { ...(await readIdx(await readAllBytes(label))), label };
  } catch (error) {
    throw withFileName(error, label);
  }
}

/** The path or address of a file, after downloading it if that is wanted. */
async function locate(
  set: PublishedSet,
  file: PublishedFile,
  options: MnistOptions,
): Promise<string> {
  const root = String(options.root);
  if (/^https?:/.test(root) || !hasFiles()) return joinAddress(root, `${file.name}.gz`);
  const { access } = await import('node:fs/promises');
  const { join } = await import('node:path');
  const { fileURLToPath } = await import('node:url');
  const folder = root.startsWith('file:') ? fileURLToPath(root) : root;
  const names = [file.name, file.name.replace('-idx', '.idx')];
  for (const inner of FOLDERS) {
    for (const name of names.flatMap((plain) => [plain, `${plain}.gz`])) {
      const path = join(folder, inner, name);
      if (await isThere(access(path))) return path;
    }
  }
  const path = join(folder, `${file.name}.gz`);
  if (options.download !== true) {
    throw new ArgumentError(`${file.name}[.gz] is not in ${folder}`, {
      op: set.op,
      hint: 'pass download: true, or the folder that has the IDX files',
    });
  }
  await makeOutputFolder(set.op, folder);
  await downloadFile({
    urls: mirrorsOf(set, options).map((mirror) => joinAddress(mirror, `${file.name}.gz`)),
    path,
    md5: file.md5,
    maxBytes: file.bytes,
    signal: options.signal,
    onProgress: options.onProgress,
    attempts: options.attempts,
    backoff: options.backoff,
  });
  return path;
}

function mirrorsOf(set: PublishedSet, { mirror }: MnistOptions): readonly string[] {
  if (mirror === undefined) return set.mirrors;
  return typeof mirror === 'string' ? [mirror] : mirror;
}

function joinAddress(folder: string, name: string): string {
  return folder.endsWith('/') ? folder + name : `${folder}/${name}`;
}

function isThere(access: Promise<void>): Promise<boolean> {
  return access.then(
    () => true,
    () => false,
  );
}

function combine(
  set: PublishedSet,
  options: MnistOptions,
  images: NamedArray,
  labels: NamedArray,
): ImageDataset {
  const [count, height, width] = images.shape;
  const pixels = images.data;
  if (
    !(pixels instanceof Uint8Array) ||
    images.shape.length !== 3 ||
    height === undefined ||
    width === undefined
  ) {
    throw unexpected(images, 'images: uint8 [number, height, width]');
  }
  if (!(labels.data instanceof Uint8Array) || labels.shape.length !== 1) {
    throw unexpected(labels, 'labels: uint8 [number]');
  }
  if (labels.shape[0] !== count) {
    throw new FormatError(
      `${images.label} has ${count} images, ${labels.label} has ${labels.shape[0]} labels`,
      { hint: 'the files do not belong together' },
    );
  }
  const wrong = labels.data.findIndex((label) => label >= set.classes.length);
  if (wrong >= 0) {
    throw new FormatError(
      `${labels.label}: label ${labels.data[wrong]} of image ${wrong}, there are ${set.classes.length} classes`,
      { offset: 8 + wrong },
    );
  }
  return new ImageDataset({
    images: pixels,
    imageShape: [1, height, width],
    labels: labels.data,
    classes: set.classes,
    transform: options.transform,
  });
}

function unexpected(array: NamedArray, wanted: string): FormatError {
  return new FormatError(
    `${array.label} holds ${array.dtype} ${formatShape(array.shape)}, expected ${wanted}`,
    { offset: 2 },
  );
}
