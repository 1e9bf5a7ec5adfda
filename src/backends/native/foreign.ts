import { createRequire } from 'node:module';
const koffi = createRequire(import.meta.url)('koffi');
export function addressOf(buffer: ArrayBuffer): number {
  return Number(koffi.address(buffer));
}
export function open(path: string) {
  const l = koffi.load(path);
  kept.push(l);
  return l;
}
const kept: unknown[] = [];
export const koffiRaw = koffi;
