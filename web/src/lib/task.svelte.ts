/** One dataset task as a screen sees it: running, its progress, its result or why there is none. A newer one stops an older one. */

import { api } from './api';
import { runTask, type DatasetTask, type TaskKind } from './datasets';

export class TaskState<T> {
  busy = $state(false);
  /** Of the task that runs. */
  progress = $state.raw<DatasetTask['progress']>(null);
  result = $state.raw<T | null>(null);
  /** Of the newest result. */
  task = $state.raw<DatasetTask | null>(null);
  trouble = $state.raw<Error | null>(null);
  #stop: AbortController | null = null;
  readonly #kind: TaskKind;

  constructor(kind: TaskKind) {
    this.#kind = kind;
  }

  async run(body: Record<string, unknown>): Promise<T | null> {
    this.stop();
    const stop = (this.#stop = new AbortController());
    this.busy = true;
    this.trouble = null;
    try {
      const { task, result } = await runTask<T>(api, this.#kind, body, { signal: stop.signal, onprogress: (t) => (this.progress = t.progress) });
      if (stop.signal.aborted) return null;
      this.task = task;
      this.result = result;
      return result;
    } catch (error) {
      if (!stop.signal.aborted) {
        this.trouble = error as Error;
        this.result = null;
      }
      return null;
    } finally {
      if (this.#stop === stop) {
        this.busy = false;
        this.progress = null;
      }
    }
  }

  stop(): void {
    this.#stop?.abort();
    this.#stop = null;
    this.busy = false;
    this.progress = null;
  }
}
