// A plan's scalar table: one number per slot, in the slot's type.
import { toBfloat16Bits, toFloat16Bits, type DType } from '../base/dtype.ts';
import { internalError } from '../base/errors.ts';

/** Writes each number in its slot's type; a slot has 8 bytes. */
export function writeScalars(
  view: DataView,
  address: number,
  dtypes: readonly DType[],
  scalars: Float64Array,
): void {
  if (scalars.length < dtypes.length) {
    throw internalError(`${scalars.length} scalars for a plan of ${dtypes.length}`);
  }
  for (let slot = 0; slot < dtypes.length; slot++) {
    writeScalar(view, address + 8 * slot, dtypes[slot] as DType, scalars[slot] as number);
  }
}

function writeScalar(view: DataView, at: number, dtype: DType, value: number): void {
  switch (dtype) {
    case 'float32':
      view.setFloat32(at, value, true);
      break;
    case 'float64':
      view.setFloat64(at, value, true);
      break;
    case 'float16':
      view.setUint16(at, toFloat16Bits(value), true);
      break;
    case 'bfloat16':
      view.setUint16(at, toBfloat16Bits(value), true);
      break;
    case 'int32':
    case 'uint32':
      view.setInt32(at, value, true);
      break;
    case 'int16':
      view.setInt16(at, value, true);
      break;
    case 'int8':
    case 'uint8':
      view.setInt8(at, value);
      break;
    case 'bool':
      view.setUint8(at, value === 0 ? 0 : 1);
      break;
    default:
      dtype satisfies never;
  }
}
