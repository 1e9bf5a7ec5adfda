// `tengen bench`: the time of one run on every device, taken by turns.
import { type Command, parseCall, toJson } from './call.ts';
import { candidatesOf, formatTried, ranked, tryAll } from './fit.ts';
import { INPUT_HELP, INPUT_OPTIONS, readInputs } from './inputs.ts';
import { openModel } from './model-source.ts';
import { TIMING_OPTIONS } from './run.ts';

const HELP = `tengen bench FILE [options]

Times a model on every device of this machine. Runs of all of them take turns, so that whatever slows the
machine for a while slows them all; the table has medians. Exit code 1 if a device could not run it.

  --device A,B        devices; default: all that can be used
  --threads N         threads; default: as many as the machine has cores
  --numerics WORD     fast (default) or strict
  --warmup N          rounds before time is taken; default 3
  --repeat N          rounds; default 30
${INPUT_HELP}
  --json              as JSON`;

export const bench: Command = {
  help: HELP,
  async run(words, terminal) {
    const call = await parseCall(words, { ...INPUT_OPTIONS, ...TIMING_OPTIONS }, [1, 1]);
    const repeat = call.count('repeat', 30, 1);
    const warmup = call.count('warmup', 3);
    const numerics = call.choice('numerics', ['fast', 'strict'] as const) ?? 'fast';
    const model = await openModel(call.words[0] as string, call.pairs('size'));
    const values = await readInputs(model, call);
    await terminal.devices(call.list('device')?.includes('interp') === true);
    const candidates = await candidatesOf(call, [numerics], false);
    const tried = await tryAll(model.source, values, candidates, warmup, repeat, terminal);
    terminal.print(
      call.flag('json') ? toJson({ file: model.path, tried: ranked(tried) }) : formatTried(tried),
    );
    return tried.every(({ failure }) => failure === null) ? 0 : 1;
  },
};
