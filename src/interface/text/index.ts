// Language models.
export { KeyValueCache } from './cache.ts';
export * from './generate.ts';
export * from './gpt.ts';
