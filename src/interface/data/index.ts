// The public face of data loading.
export * as datasets from './datasets.ts';
export * as transforms from './transforms.ts';
export { type MnistOptions } from './mnist.ts';
export { type StrokesOptions } from './strokes.ts';
export { type HostArray, type TypedHostArray } from '../io/host-array.ts';
export { type Collated, type CollatedArrays, collateToArrays, defaultCollate } from './collate.ts';
export {
  type BatchContext,
  type DatasetLike,
  type SampleContext,
  ConcatDataset,
  Dataset,
  IterableDataset,
  MappedDataset,
  Subset,
  TensorDataset,
  mapDataset,
  randomSplit,
} from './dataset.ts';
export { type DownloadOptions, type DownloadProgress, downloadFile } from './download.ts';
export { DataError, DownloadError, LoaderTimeoutError, WorkerDiedError } from './errors.ts';
export { parseIdx, readIdx } from './idx.ts';
export { type ImageDatasetInit, type LabelledImage, ImageDataset } from './image-dataset.ts';
export {
  type BatchOrder,
  type DataLoaderOptions,
  type DataSource,
  type LoaderState,
  DataLoader,
} from './loader.ts';
export { Random } from './random.ts';
export {
  type IndexOrder,
  type Sampler,
  type SamplerState,
  BatchSampler,
  EpochSequence,
  RandomSampler,
  SequentialSampler,
  WeightedRandomSampler,
} from './samplers.ts';
export { type ImageArray, type Transform } from './transforms.ts';
export { type WorkerDataset, workerDataset } from './worker-pool.ts';
export { serveDataset } from './worker-source.ts';
