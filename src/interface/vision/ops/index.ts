// Operations on boxes, regions and images, with the names of torchvision.ops.
export * from './boxes.ts';
export * from './color.ts';
export * from './correlation.ts';
export * from './deform-conv.ts';
export * from './deform-layer.ts';
export { DeformPSRoIPool, deformPsRoiPool, type DeformPsRoiPoolOptions } from './deform-pool.ts';
export * from './focal-loss.ts';
export * from './images.ts';
export {
  psRoiAlign,
  psRoiPool,
  type Regions,
  roiAlign,
  type RoiAlignModeOptions,
  type RoiAlignOptions,
  roiPool,
  type RoiPoolOptions,
} from './regions.ts';
export * from './warp.ts';
