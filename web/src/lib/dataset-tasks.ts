/** Work on a data set that the server does for a page: ask for it, then ask until it is done. Pure but for the asking, which is handed in. */

import type { Schemas } from '../api/schema';

export type DatasetTask<T> = Omit<Schemas['DatasetTask'], 'result'> & { result: T | null };
export type RowPreview = Schemas['RowPreview'];
export type DataReport = Schemas['DataReport'];
export type DoctorReport = Schemas['DoctorReport'];

export interface Asking {
  post<T>(path: string, body: unknown): Promise<T>;
  get<T>(path: string): Promise<T>;
}

const DONE = ['completed', 'failed', 'cancelled'];
const PAUSE_MS = 1000;

/** The result of a task, when it is done; its own error where it failed. `alive` false: nobody waits any more. */
export async function taskResult<T>(
  ask: Asking,
  kind: string,
  body: Record<string, unknown>,
  { alive = () => true, pause = (ms: number) => new Promise<void>((go) => setTimeout(go, ms)) } = {},
): Promise<T> {
  let task = await ask.post<DatasetTask<T>>(`/v1/luthier/datasets/${kind}`, body);
  while (!DONE.includes(task.status)) {
    await pause(PAUSE_MS);
    if (!alive()) throw new DOMException('Nobody waits for it any more.', 'AbortError');
    task = await ask.get<DatasetTask<T>>(`/v1/luthier/datasets/tasks/${encodeURIComponent(task.id)}`);
  }
  if (task.result === null || task.status !== 'completed') throw new Error(task.error?.message ?? `The work ended as ${task.status}.`);
  return task.result;
}
