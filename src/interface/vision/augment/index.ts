// Augmentation of batches of images, as layers: what the device computes, in training plans too.
export type { Amount, AugmentOptions } from './chance.ts';
export * from './filters.ts';
export * from './geometry.ts';
export * from './mixing.ts';
export * from './noise.ts';
