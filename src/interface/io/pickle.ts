// A reader of Python pickles that builds plain data and executes nothing: every name a pickle refers to
// is looked up in a list of the host's, and refused by its name if it is not there.
import type { Cursor } from './cursor.ts';
import { PickleMachine } from './pickle-machine.ts';
import { OPCODES } from './pickle-opcodes.ts';
import type { PickleHost, PickleValue } from './pickle-values.ts';

/**
 * Reads the one pickle that starts at the cursor, protocols 0 to 5, and leaves the cursor behind it.
 * Memory is proportional to the bytes read; nesting costs no stack.
 *
 * @throws FormatError for anything but plain data and what the host knows.
 */
export function readPickle(cursor: Cursor, host: PickleHost): PickleValue {
  const machine: PickleMachine = new PickleMachine(cursor, host);
  for (let code = machine.next(); code !== undefined; code = machine.next()) {
    const opcode = OPCODES.get(code);
    if (opcode === undefined) {
      machine.fail(`byte 0x${code.toString(16).padStart(2, '0')} is no opcode of a pickle`);
    }
    opcode(machine);
  }
  return machine.pop();
}
