// What the terminal around us can do: which stream to write to, how wide it is, colours, Unicode.
// `process` is looked up defensively, because the same code runs in browsers and workers.

/** The part of a Node writable stream that the terminal tools use; any object of this form will do. */
export interface OutputStream {
  write(text: string): unknown;
  /** True when a person looks at the stream and the cursor can be moved. */
  readonly isTTY?: boolean | undefined;
  /** Width in characters. */
  readonly columns?: number | undefined;
  /** False once a Node stream has ended or was destroyed. */
  readonly writable?: boolean | undefined;
  on?(event: 'error', listener: (error: Error) => void): unknown;
}

export type EnvironmentVariables = Readonly<Record<string, string | undefined>>;

interface ProcessLike {
  readonly env?: EnvironmentVariables;
  readonly stdout?: OutputStream;
  readonly stderr?: OutputStream;
}

function currentProcess(): ProcessLike | undefined {
  return (globalThis as { process?: ProcessLike }).process;
}

/** The environment variables of this process; empty where there is no process. */
export function environmentVariables(): EnvironmentVariables {
  return currentProcess()?.env ?? {};
}

const consoleStream: OutputStream = {
  write(text: string): void {
    const line = text.replace(/\r?\n$/, '');
    if (line.length > 0) console.log(line);
  },
};

/** The standard output of this process, or the console where there is no process. */
export function standardOutput(): OutputStream {
  return currentProcess()?.stdout ?? consoleStream;
}

/** The standard error of this process, or the console where there is no process. */
export function standardError(): OutputStream {
  return currentProcess()?.stderr ?? consoleStream;
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '';
}

/**
 * Whether text for `stream` may carry colours. `FORCE_COLOR` decides first (`0` and `false` switch
 * off), then `NO_COLOR`, then whether the stream is a terminal that knows escape sequences.
 */
export function supportsColor(
  stream: OutputStream | undefined = standardOutput(),
  variables: EnvironmentVariables = environmentVariables(),
): boolean {
  const force = variables['FORCE_COLOR'];
  if (force !== undefined) return force !== '0' && force !== 'false';
  if (isSet(variables['NO_COLOR']) || variables['TERM'] === 'dumb') return false;
  return stream?.isTTY === true;
}

/**
 * Whether a line on `stream` can be redrawn in place: a terminal, and neither `CI`, `NO_COLOR` nor
 * `TERM=dumb` asks for plain text.
 */
export function supportsRedraw(
  stream: OutputStream,
  variables: EnvironmentVariables = environmentVariables(),
): boolean {
  if (stream.isTTY !== true || variables['TERM'] === 'dumb') return false;
  const ci = variables['CI'];
  return !isSet(variables['NO_COLOR']) && (!isSet(ci) || ci === '0' || ci === 'false');
}

/** Whether block and braille characters can be expected to show: all but dumb and kernel consoles. */
export function supportsUnicode(variables: EnvironmentVariables = environmentVariables()): boolean {
  const term = variables['TERM'];
  return term !== 'dumb' && term !== 'linux';
}

const DEFAULT_COLUMNS = 80;

/** Width of `stream` in characters; 80 where it is unknown, as in a pipe. */
export function terminalWidth(stream: OutputStream | undefined = standardOutput()): number {
  const columns = stream?.columns;
  return columns !== undefined && columns > 0 ? columns : DEFAULT_COLUMNS;
}

const failedStreams = new WeakSet<OutputStream>();
const watchedStreams = new WeakSet<OutputStream>();

/**
 * Writes text and never throws: a reader that went away (`| head`) must not end a training run.
 * Returns false once the stream takes no more text.
 */
export function writeSafely(stream: OutputStream, text: string): boolean {
  if (failedStreams.has(stream) || stream.writable === false) return false;
  // A broken pipe is reported later, as an event; unheard, Node would end the process for it.
  if (!watchedStreams.has(stream)) {
    watchedStreams.add(stream);
    stream.on?.('error', () => failedStreams.add(stream));
  }
  try {
    stream.write(text);
    return true;
  } catch {
    failedStreams.add(stream);
    return false;
  }
}
