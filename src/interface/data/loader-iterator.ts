// One pass over a loader: keeps batches coming ahead of time, delivers them in order, ends cleanly.
import { LoaderTimeoutError, formatSamples } from './errors.ts';

/** A batch on its way. */
export interface BatchTicket<B> {
  readonly value: Promise<B>;
  /** Its samples, for messages. */
  readonly samples: readonly number[];
  /** The sample that is being read, or waited for, right now; if known. */
  currentSample(): number | undefined;
  /** Nobody will take it. */
  cancel(): void;
}

/** What an iterator needs of its loader. */
export interface IterationPlan<B> {
  readonly tickets: AsyncGenerator<BatchTicket<B>, void>;
  /** Batches begun beyond the one that is asked for; at least 1. */
  readonly ahead: number;
  /** Milliseconds, 0 for none. */
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
  /** A batch was handed over. */
  delivered(): void;
  /** Every batch was. */
  finished(): void;
  /** Ended by timeout or signal: whatever is still running must be stopped by force. */
  interrupted(): Promise<void>;
}

/** The async iterator behind `for await (... of loader)`. */
export class LoaderIterator<B> implements AsyncIterableIterator<B, undefined> {
  private readonly plan: IterationPlan<B>;
  /** Batches begun, in order. */
  private readonly begun: BatchTicket<B>[] = [];
  private failure: { readonly error: unknown } | undefined;
  private exhausted = false;
  private pumping = false;
  private over = false;
  private wasInterrupted = false;
  /** Called when there is something new: a batch, a failure or the end. */
  private wake: () => void = () => undefined;
  /** Calls are answered one after the other, also if they come all at once. */
  private tail: Promise<unknown> = Promise.resolve();

  constructor(plan: IterationPlan<B>) {
    this.plan = plan;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<B, undefined>> {
    const answer = this.tail.then(() => this.advance());
    this.tail = answer.catch(() => undefined);
    return answer;
  }

  async return(): Promise<IteratorResult<B, undefined>> {
    if (!this.over) await this.stop();
    return { done: true, value: undefined };
  }

  private async advance(): Promise<IteratorResult<B, undefined>> {
    if (this.over) return { done: true, value: undefined };
    try {
      this.checkSignal();
      void this.pump();
      if (this.begun.length === 0 && !this.exhausted) {
        await this.guard(this.somethingNew(), undefined);
      }
      const ticket = this.begun.shift();
      if (ticket === undefined) {
        if (this.failure !== undefined) throw this.failure.error;
        this.over = true;
        this.plan.finished();
        return { done: true, value: undefined };
      }
      void this.pump();
      const value = await this.guard(ticket.value, ticket);
      this.plan.delivered();
      return { done: false, value };
    } catch (error) {
      await this.stop();
      if (this.wasInterrupted) await this.plan.interrupted();
      throw error;
    }
  }

  private somethingNew(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  /** Begins batches until enough are on their way. */
  private async pump(): Promise<void> {
    if (this.pumping) return;
    this.pumping = true;
    try {
      while (!this.over && !this.exhausted && this.begun.length < this.plan.ahead) {
        const { done, value } = await this.plan.tickets.next();
        if (done === true) {
          this.exhausted = true;
        } else {
          // Its failure is reported when its turn comes, and is not "unhandled" until then.
          value.value.catch(() => undefined);
          if (this.over) value.cancel();
          else this.begun.push(value);
        }
        this.wake();
      }
    } catch (error) {
      this.failure = { error };
      this.exhausted = true;
      this.wake();
    } finally {
      this.pumping = false;
    }
  }

  private async stop(): Promise<void> {
    this.over = true;
    for (const ticket of this.begun.splice(0)) ticket.cancel();
    const stopped = this.plan.tickets.return().catch(() => undefined);
    // A source that is waiting for data ends only when they come: it must not hold up the consumer.
    if (!this.pumping) await stopped;
  }

  private checkSignal(): void {
    const { signal } = this.plan;
    if (signal?.aborted !== true) return;
    this.wasInterrupted = true;
    throw signal.reason;
  }

  /** Waits for `promise`, but no longer than the timeout and only until the signal. */
  private guard<T>(promise: Promise<T>, ticket: BatchTicket<B> | undefined): Promise<T> {
    const { signal, timeout } = this.plan;
    if (signal === undefined && timeout === 0) return promise;
    return new Promise((resolve, reject) => {
      const interrupt = (reason: unknown): void => {
        settle();
        this.wasInterrupted = true;
        ticket?.cancel();
        reject(reason);
      };
      const onAbort = (): void => interrupt(signal?.reason);
      const onTimeout = (): void => interrupt(timeoutError(timeout, ticket));
      const timer = timeout > 0 ? setTimeout(onTimeout, timeout) : undefined;
      const settle = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      void promise.finally(settle).then(resolve, reject);
    });
  }
}

function timeoutError<B>(timeout: number, ticket: BatchTicket<B> | undefined): LoaderTimeoutError {
  if (ticket === undefined) {
    return new LoaderTimeoutError(`no batch after ${timeout} ms: the dataset is not ready`);
  }
  const { samples } = ticket;
  const sampleIndex = ticket.currentSample();
  const place =
    sampleIndex === undefined
      ? `waiting for samples ${formatSamples(samples)}`
      : `waiting for sample ${sampleIndex}, of samples ${formatSamples(samples)}`;
  return new LoaderTimeoutError(`no batch after ${timeout} ms: ${place}`, { sampleIndex, samples });
}
