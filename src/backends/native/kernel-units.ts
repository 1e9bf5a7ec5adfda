// The C text of kernels, rendered once for each. That of kernels from disk is stated, not rendered.
import type { Kernel } from '../../ir/kernel.ts';
import { type RenderedUnit, renderUnit } from './renderer.ts';

const units = new WeakMap<Kernel, RenderedUnit>();

export function unitOf(kernel: Kernel): RenderedUnit {
  let unit = units.get(kernel);
  if (unit === undefined) units.set(kernel, (unit = renderUnit(kernel)));
  return unit;
}

export function stateUnit(kernel: Kernel, unit: RenderedUnit): void {
  units.set(kernel, unit);
}
