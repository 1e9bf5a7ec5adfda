// Image models. Parameters and buffers have torchvision's names and shapes: state dicts exchange.
export * from './augment/index.ts';
export type { ClassifierOptions } from './blocks.ts';
export * from './efficientnet.ts';
export * from './mobilenet-v2.ts';
export * from './mobilenet-v3.ts';
export * from './ops/index.ts';
export * from './resnet.ts';
export * from './shufflenet-v1.ts';
export * from './shufflenet-v2.ts';
export * from './squeezenet.ts';
export * from './swin-transformer.ts';
export * from './vgg.ts';
export {
  VisionTransformer,
  type VisionTransformerLayout,
  type VisionTransformerOptions,
  vitB16,
  vitB32,
  vitH14,
  vitL16,
  vitL32,
} from './vision-transformer.ts';
