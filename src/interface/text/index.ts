// Language models.
export * from './gpt.ts';
