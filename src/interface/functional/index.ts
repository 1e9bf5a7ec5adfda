// Functions without state: what layers are made of. Imported as `F`.
export * from './activations.ts';
export * from './softmax.ts';
