// Entry `tengen/vision`: image models with torchvision's structure and names.
export * from './interface/vision/index.ts';
