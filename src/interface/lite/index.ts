// `tengen/lite`: runs program files.
export { offerBackend } from './devices.ts';
export {
  type CheckReport,
  type Inputs,
  load,
  type LoadOptions,
  Model,
  type Outputs,
  type Port,
} from './model.ts';
export type { InputValue, OutputValue } from './values.ts';
