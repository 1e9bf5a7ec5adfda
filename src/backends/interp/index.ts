// The interpreter, as a package entry or a test registers it.
import type { Backend } from '../../runtime/registry.ts';
import { InterpDevice } from './device.ts';

export { InterpDevice } from './device.ts';
export type { InterpOptions } from './device.ts';

export const interpBackend: Backend = {
  name: 'interp',
  priority: -10,
  unavailable: () => null,
  create: () => new InterpDevice(),
};
